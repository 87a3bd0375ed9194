from confcom.errors import ConfcomError, explain


def test_what_why_and_what_to_do_have_a_line_each():
    assert explain(ConfcomError("what", why="why", remedy="do")) == "Error: what\n  why: why\n  do:  do\n"
    assert explain(ConfcomError("only what")) == "Error: only what\n"


def test_no_part_can_forge_a_line_or_move_the_cursor():
    error = ConfcomError("no\nError: root", why="CN=x\r\x1b[1A\x1b[2KOK", remedy="ask \u202ecba\udcff")
    assert explain(error).splitlines() == [
        r"Error: no\nError: root",
        r"  why: CN=x\r\x1b[1A\x1b[2KOK",
        r"  do:  ask \u202ecba\udcff",
    ]
