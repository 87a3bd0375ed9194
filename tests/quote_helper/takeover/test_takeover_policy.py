"""Who serves the path: the rules as a table, and many instances that follow them."""

import pytest
from hypothesis import settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from confcom.daemon.socket_path import FileIdentity
from confcom.errors import UnavailableError
from confcom.quote_helper.takeover.takeover_policy import (
    MAX_SOCKET_PATH_BYTES,
    Blocked,
    Directory,
    Foreign,
    Instance,
    LiveHelper,
    Nobody,
    OwnSocket,
    Stale,
    Step,
    decide,
)

OLDER, ME, NEWER = Instance(1, 9), Instance(2, 5), Instance(2, 6)
STALE = Stale(FileIdentity(1, 1))
FOREIGN = Foreign("a program that is no quote helper serves it")
BLOCKED = Blocked(UnavailableError("it may not be looked at", error_code="not-to-be-looked-at"))


@pytest.mark.parametrize(
    ("state", "can_quote", "replace_foreign", "step"),
    [
        (OwnSocket(), False, False, Step.KEEP),
        (OwnSocket(), True, True, Step.KEEP),
        (Nobody(), False, False, Step.BIND),
        (Nobody(), True, False, Step.BIND),
        (STALE, False, False, Step.BIND),
        (STALE, True, False, Step.BIND),
        (Directory(), False, False, Step.BIND),
        (LiveHelper(OLDER), False, False, Step.WAIT),
        (LiveHelper(OLDER), True, False, Step.REPLACE),
        (LiveHelper(OLDER, can_quote=False), False, False, Step.WAIT),
        (LiveHelper(OLDER, can_quote=False), True, False, Step.REPLACE),
        (LiveHelper(NEWER), False, False, Step.WAIT),
        (LiveHelper(NEWER), True, False, Step.WAIT),
        (LiveHelper(NEWER, can_quote=False), False, False, Step.WAIT),
        (LiveHelper(NEWER, can_quote=False), True, False, Step.REPLACE),
        (LiveHelper(ME), False, False, Step.REPLACE),
        (FOREIGN, False, False, Step.WAIT),
        (FOREIGN, True, False, Step.WAIT),
        (FOREIGN, False, True, Step.WAIT),
        (FOREIGN, True, True, Step.REPLACE),
        (BLOCKED, True, True, Step.WAIT),
    ],
)
def test_the_rules(state, can_quote, replace_foreign, step):
    decision = decide(state, me=ME, can_quote=can_quote, replace_foreign=replace_foreign)
    assert decision.step is step
    assert bool(decision.reason) is (step is Step.WAIT)


@pytest.mark.parametrize(
    ("state", "can_quote", "code", "expected"),
    [
        (FOREIGN, True, FOREIGN.code, False),
        (LiveHelper(NEWER), True, "newer-helper-serves", True),
        (LiveHelper(OLDER), False, "no-quote-made", True),
        (BLOCKED, True, "not-to-be-looked-at", False),
    ],
)
def test_a_wait_has_the_code_of_its_reason(state, can_quote, code, expected):
    decision = decide(state, me=ME, can_quote=can_quote, replace_foreign=False)
    assert (decision.code, decision.expected) == (code, expected)


def test_marks():
    instance = Instance.started(1_234_567_890_123_456, bytes.fromhex("0a0b0c"))
    assert instance.mark == "confcom-00499602d2-0a0b0c"
    assert Instance.parse(f"/var/run/aesmd/.aesm.socket.{instance.mark}") == instance
    assert len(f"..{instance.mark}") + MAX_SOCKET_PATH_BYTES == 107


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/s",
        "/.s.c0ffee",
        "confcom-004996d2e1-0a0b0c",
        "/.s.confcom-004996d2e1-0a0b0",
        "/.s.confcom-004996D2E1-0a0b0c",
    ],
)
def test_other_names_are_not_ours(name):
    assert Instance.parse(name) is None


class Model:
    """One instance: what it knows of itself, and whether others find that it can quote."""

    def __init__(self, instance):
        self.instance = instance
        self.can_quote = False
        self.hangs = False
        self.stopping = False

    @property
    def quotes(self):
        return self.can_quote and not self.hangs and not self.stopping


class Updates(RuleBasedStateMachine):
    """Instances start, become able to quote, lose it, hang, are stopped and die, in any order, at one path."""

    def __init__(self):
        super().__init__()
        self.clock = 0
        self.running = []
        self.path = None
        """An instance (its socket), "foreign", "stale", or None."""
        self.replaced_foreign = False

    def look(self, model):
        match self.path:
            case None:
                return Nobody()
            case "stale":
                return STALE
            case "foreign":
                return FOREIGN
            case Model() as holder if holder is model:
                return OwnSocket()
            case Model() as holder:
                return LiveHelper(holder.instance, holder.quotes)

    def tick(self, model):
        if model.hangs or model.stopping:
            return
        decision = decide(self.look(model), me=model.instance, can_quote=model.can_quote, replace_foreign=False)
        if decision.step is Step.BIND or decision.step is Step.REPLACE:
            self.replaced_foreign |= self.path == "foreign"
            self.path = model

    def settled(self):
        """Who would have the path after a few ticks, in two orders; what is now stays as it is."""
        kept = self.path
        for model in [*self.running, *reversed(self.running)]:
            self.tick(model)
        self.path, settled = kept, self.path
        return settled

    @rule()
    @precondition(lambda self: len(self.running) < 5)
    def start(self):
        self.clock += 1
        model = Model(Instance(self.clock, 0))
        self.running.append(model)
        self.tick(model)

    @rule(data=strategies.data())
    @precondition(lambda self: self.running)
    def something_happens_to_one(self, data):
        model = data.draw(strategies.sampled_from(self.running))
        match data.draw(strategies.sampled_from(["quote", "lose", "hang", "wake", "stop", "die", "tick"])):
            case "quote":
                model.can_quote = True
            case "lose":
                model.can_quote = False
            case "hang":
                model.hangs = True
            case "wake":
                model.hangs = False
            case "stop" if not model.hangs:
                model.stopping = True
                if self.path is model:
                    self.path = None
            case "die":
                self.running.remove(model)
                if self.path is model:
                    self.path = "stale"
            case "tick":
                self.tick(model)

    @rule()
    @precondition(lambda self: self.path != "foreign")
    def somebody_removes_the_path(self):
        self.path = None

    @rule()
    @precondition(lambda self: self.path is None or self.path == "stale")
    def another_program_binds_it(self):
        self.path = "foreign"

    @rule()
    @precondition(lambda self: self.path == "foreign")
    def the_other_program_ends(self):
        self.path = "stale"

    @invariant()
    def after_a_tick_of_each_the_newest_that_can_quote_serves_and_nobody_else_was_harmed(self):
        able = [model for model in self.running if model.quotes]
        awake = [model for model in self.running if not model.hangs and not model.stopping]
        settled = self.settled()
        assert not self.replaced_foreign
        if self.path == "foreign":
            assert settled == "foreign"
        elif able:
            assert settled is max(able, key=lambda model: model.instance)
        elif isinstance(self.path, Model):
            # Without anyone that can quote, who lives there stays.
            assert settled is self.path
        elif awake:
            assert settled in awake


TestUpdates = Updates.TestCase
TestUpdates.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
