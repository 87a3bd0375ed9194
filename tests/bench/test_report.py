from bench.report import Goal, Section


def test_a_ratio_is_of_rounds_and_of_this_side():
    section = Section("title", ["this", "other"], {"cost": Goal(3.0)})
    section.add("other", "cost", "ms", 2.0, 4.0, 5.0)
    section.add("this", "cost", "ms", 1.0, 4.0, 10.0)
    (row,) = section.as_json()["rows"]
    assert row["ratios"] == {"other": [1.0, 0.5, 2.0]}
    assert "1.000x (0.50 to 2.00)" in section.as_table()
    assert "MISSED" in section.as_table()


def test_rows_of_one_side_and_named_ones_have_no_ratio():
    section = Section("title", ["this", "other"], {"rate": Goal(95.0, least=True)})
    section.add("this", "rate", "%", 96.0)
    section.note("gone", "not measured: deleted")
    assert [row["ratios"] for row in section.as_json()["rows"]] == [{}, {}]
    assert "met" in section.as_table()
    assert "not measured: deleted" in section.as_table()
