import time

from e2e.kubelet_log import LIST_PROCESSED, LOST, KubeletLog, parse, seconds_of_day

RESOURCE = 'resourceName="example.com/a"'
PROCESSED = '4242 manager.go:319] "Processed device updates for resource"'
TEXT = f"""I1125 23:59:59.900000    4242 manager.go:420] "Mark all resources Unhealthy for resource" {RESOURCE}
goroutine 1 [running]:
E1126 00:00:00.000001    4242 server.go:177] "Error connecting to device plugin client" err="it said no"
I1126 00:00:00.150000    {PROCESSED} {RESOURCE} totalCount=3 healthyCount=3
I1126 00:00:01.150000    {PROCESSED} {RESOURCE} totalCount=3 healthyCount=0
"""


def test_lines_become_events_and_others_are_passed_over():
    lost, error, back, empty = parse(TEXT)
    assert (lost.message, lost.values) == (LOST, {"resourceName": "example.com/a"})
    assert error.message == "Error connecting to device plugin client"
    assert back.values == {"resourceName": "example.com/a", "totalCount": "3", "healthyCount": "3"}
    assert abs(back.after(lost) - 0.25) < 1e-6
    assert empty.message == LIST_PROCESSED


def test_what_was_before_the_mark_is_past(tmp_path):
    log = KubeletLog(tmp_path / "kubelet.log")
    log.path.write_text(TEXT)
    assert len(log.lists("example.com/a")) == 1
    assert log.lists("example.com/b") == []
    log.mark()
    assert log.events() == []
    with log.path.open("a") as file:
        file.write(TEXT)
    assert len(log.events()) == 4


def test_a_loss_lasts_until_there_are_healthy_devices(tmp_path):
    log = KubeletLog(tmp_path / "kubelet.log")
    empty = TEXT.splitlines()[-1]
    log.path.write_text(f"{empty}\n{TEXT}{TEXT.replace('example.com/a', 'example.com/b')}")
    ((lost, back),) = log.losses("example.com/a")
    assert (lost.message, back.message) == (LOST, LIST_PROCESSED)
    assert abs(back.after(lost) - 0.25) < 1e-6
    assert log.losses("example.com/c") == []


def test_the_time_of_a_moment_is_the_logs(tmp_path):
    moment = time.mktime((2026, 11, 26, 0, 0, 2, 0, 0, -1)) + 0.25
    assert seconds_of_day(moment) == 2.25
    (lost, *_, last) = parse(TEXT)
    assert abs(lost.ago(seconds_of_day(moment)) - 2.35) < 1e-6
    assert abs(last.ago(seconds_of_day(moment)) - 1.1) < 1e-6
