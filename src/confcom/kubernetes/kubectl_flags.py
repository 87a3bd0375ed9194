"""Flags of kubectl and helm that choose a cluster and a user."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Login:
    """The user's options that choose a cluster. If an option is empty, kubectl and helm use their default."""

    context: str = ""
    kubeconfig: str = ""
    user: str = ""
    groups: tuple[str, ...] = ()
    """kubectl and helm impersonate this `user` with these `groups`."""

    def kubectl_flags(self) -> list[str]:
        return self._flags("--context", "--as", "--as-group")

    def helm_flags(self) -> list[str]:
        return self._flags("--kube-context", "--kube-as-user", "--kube-as-group")

    def _flags(self, context: str, user: str, group: str) -> list[str]:
        named = ((context, self.context), ("--kubeconfig", self.kubeconfig), (user, self.user))
        return [*(f"{flag}={value}" for flag, value in named if value), *(f"{group}={one}" for one in self.groups)]
