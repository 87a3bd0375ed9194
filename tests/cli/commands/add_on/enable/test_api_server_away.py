"""The API server goes away while it is enabled or updated, or refuses for a while."""

from confcom.errors import ExitCode


def test_an_api_server_that_stays_away_has_a_deadline(confcom, cluster):
    cluster.leave_after("upgrade", 1e6)
    started = cluster.now
    done = confcom("enable", "--simulated", "--no-wait", "--timeout", "60")
    assert done.exit_code == ExitCode.UNAVAILABLE
    assert 60 <= cluster.now - started < 70


def test_an_api_server_that_refuses_is_not_waited_for(confcom, enabled):
    def and_lose_the_role(upgrade):
        done = upgrade()
        enabled.denied = {"list pods"}
        return done

    enabled.replace("upgrade", and_lose_the_role)
    started = enabled.now
    confcom.error(ExitCode.UNAVAILABLE, "forbidden", "update", "--set", "logLevel=debug")
    assert enabled.now - started < 10


def test_an_api_server_that_starts_again_may_refuse_for_a_while(confcom, enabled):
    started = enabled.now

    def start_again(fake):
        fake.away = fake.now < started + 10
        fake.denied = {"list pods"} if started + 10 <= fake.now < started + 20 else set()

    def and_end(upgrade):
        done = upgrade()
        enabled.away = True
        return done

    enabled.on_tick = start_again
    enabled.replace("upgrade", and_end)
    assert "pods is forbidden" in confcom.ok("update", "--set", "logLevel=debug").stderr
