from e2e.kubelet_log import LIST_PROCESSED, LOST, KubeletLog, parse

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
