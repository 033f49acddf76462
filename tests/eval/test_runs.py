"""Run files and measures against pytrec_eval and BEIR, which read the same files."""

import numpy as np
import pytest
import pytrec_eval
from beir.retrieval.evaluation import EvaluateRetrieval
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.__main__ import main
from eval.measures import aggregate, measure_run
from eval.runs import decode_id, encode_id, make_run, read_qrels, read_run, write_run
from eval.score import score_lines, score_run
from eval.search.ranking import Ranking
from experiment.console.command import run_command
from projheads.errors import ProjheadsError

ODD = st.text(alphabet="ab0%259A8CE \t\n\u00a0\u2028\x85é😀", min_size=1, max_size=12)


@settings(deadline=None, max_examples=500)
@given(name=ODD, other=ODD)
def test_an_encoded_id_is_one_word_and_decodes_to_itself(name, other):
    assert len(encode_id(name).split()) == 1
    assert encode_id(name) == encode_id(name).strip()
    assert decode_id(encode_id(name)) == name
    assert (encode_id(name) == encode_id(other)) == (name == other)


@pytest.mark.parametrize("name", ["MED-10", "100%", "50%off", "<dbpedia:A_(b)>", "é", "a%2Fb"])
def test_an_id_without_white_space_or_its_codes_stands_as_it_is(name):
    assert encode_id(name) == name


@pytest.mark.parametrize(
    "name, written", [("a b", "a%20b"), ("a%20b", "a%2520b"), ("\u00a0", "%C2%A0"), ("%25", "%2525")]
)
def test_how_an_id_with_white_space_is_written(name, written):
    assert encode_id(name) == written


RUN = {
    "1": [("d 1", 3.5), ("d2", 3.25), ("10", np.float32(0.1).item())],
    "q\t2": [("é", -1.5)],
}


def test_a_run_file_reads_back(tmp_path):
    write_run(tmp_path / "a.run", RUN)
    assert read_run(tmp_path / "a.run") == RUN
    assert (tmp_path / "a.run").read_text(encoding="utf-8").splitlines() == [
        "1 Q0 d%201 1 3.5 projheads",
        "1 Q0 d2 2 3.25 projheads",
        "1 Q0 10 3 0.10000000149011612 projheads",
        "q%092 Q0 é 1 -1.5 projheads",
    ]


def test_rankings_become_a_run():
    rankings = [Ranking(np.array([2, 0]), np.array([0.5, 0.25], np.float32)), Ranking(np.zeros(0, int), np.zeros(0))]
    assert make_run(rankings, ["q", "r"], ["a", "b", "c"]) == {"q": [("c", 0.5), ("a", 0.25)], "r": []}


def test_a_run_of_another_program_keeps_its_ids(tmp_path):
    (tmp_path / "a.run").write_text("1 Q0 a%20b 7 1.0 other\n1\tQ0\tc\t9\t2e0\tother\n\n")
    assert read_run(tmp_path / "a.run") == {"1": [("c", 2.0), ("a%20b", 1.0)]}


@pytest.mark.parametrize(
    "line, message",
    [
        ("1 Q0 d 1 2.0", "line 2: a line of a run has 6 columns, not 5"),
        ("1 Q0 d 1 high tag", 'line 2: the score "high" is not a number'),
        ("1 Q0 d 1 nan tag", 'line 2: the score "nan" is not a number'),
        ("1 Q0 a 1 2.0 tag", 'line 2: query "1" lists document "a" twice'),
    ],
)
def test_a_broken_run_is_told_with_its_line(tmp_path, line, message):
    (tmp_path / "a.run").write_text(f"1 Q0 a 1 3.0 tag\n{line}\n")
    with pytest.raises(ProjheadsError) as raised:
        read_run(tmp_path / "a.run")
    assert str(raised.value) == f"{tmp_path / 'a.run'} {message}"


def test_judgements_of_trec_and_of_beir_are_the_same(tmp_path):
    expected = {"q1": {"d 1": 2, "d2": 0}, "q2": {"d2": -1}}
    (tmp_path / "beir.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td 1\t1\nq1\td2\t0\nq2\td2\t-1\nq1\td 1\t2\n")
    (tmp_path / "bare.tsv").write_text("q1\td 1\t2\nq1\td2\t0\nq2\td2\t-1\n")
    (tmp_path / "trec.txt").write_text("q1 0 d1 2\nq1 0 d2 0\nq2 0 d2 -1\n")
    assert read_qrels(tmp_path / "beir.tsv") == expected
    assert read_qrels(tmp_path / "bare.tsv") == expected
    assert read_qrels(tmp_path / "trec.txt") == {"q1": {"d1": 2, "d2": 0}, "q2": {"d2": -1}}


@pytest.mark.parametrize(
    "text, message",
    [
        ("q 0 d 1 x\n", "line 1: a judgement has 3 columns"),
        ("q 0 d 1.5\n", 'line 1: the grade "1.5" is not an integer'),
        ("q 0 d yes\n", 'line 1: the grade "yes" is not a number'),
        ("query-id\tcorpus-id\tscore\n", "contains no judgements"),
    ],
)
def test_broken_judgements_are_told_with_their_line(tmp_path, text, message):
    (tmp_path / "qrels").write_text(text)
    with pytest.raises(ProjheadsError, match=message.replace("(", r"\(")):
        read_qrels(tmp_path / "qrels")


def test_a_missing_file_is_one_clear_line(tmp_path):
    for read in (read_run, read_qrels):
        with pytest.raises(ProjheadsError, match="cannot be read"):
            read(tmp_path / "none")
        with pytest.raises(ProjheadsError, match="cannot be read"):
            read(tmp_path)


def random_run(seed, *, levels=6):
    """A run with many equal scores over ids that sort differently as numbers, bytes and words; graded judgements."""
    generator = np.random.default_rng(seed)
    names = [str(number) for number in range(30)] + ["é", "z", "Z", "a", "B", "\U0001f600", "\uffff", "-1"]
    run, qrels = {}, {}
    for query in range(25):
        found = generator.permutation(len(names))[: generator.integers(1, len(names))]
        run[f"q{query}"] = {names[place]: float(np.float32(generator.integers(levels) / 7)) for place in found}
        judged = generator.permutation(len(names))[: generator.integers(1, 15)]
        qrels[f"q{query}"] = {names[place]: int(generator.integers(-1, 4)) for place in judged}
    return run, qrels


@pytest.mark.parametrize("seed", range(5))
def test_equal_scores_stand_in_the_order_of_trec_eval(tmp_path, seed):
    scores, qrels = random_run(seed)
    lines = [f"{query} Q0 {name} 1 {score!r} x\n" for query, found in scores.items() for name, score in found.items()]
    (tmp_path / "a.run").write_text("".join(lines), encoding="utf-8")
    run = read_run(tmp_path / "a.run")
    assert [name for name, _ in run["q0"]] == [
        name for name, _ in sorted(scores["q0"].items(), key=lambda item: (item[1], item[0].encode()), reverse=True)
    ]
    expected = pytrec_eval.RelevanceEvaluator(
        qrels, {"ndcg_cut_5,10", "recall_10", "recip_rank", "map_cut_10"}
    ).evaluate(scores)
    measured = measure_run(["nDCG@5", "nDCG@10", "R@10", "RR", "AP@10"], qrels, run)
    names = {
        "nDCG@5": "ndcg_cut_5",
        "nDCG@10": "ndcg_cut_10",
        "R@10": "recall_10",
        "RR": "recip_rank",
        "AP@10": "map_cut_10",
    }
    for ours, theirs in names.items():
        assert measured[ours] == pytest.approx({query: expected[query][theirs] for query in qrels}, abs=1e-12)


def test_scores_that_trec_eval_cannot_tell_apart_count_as_equal(tmp_path):
    (tmp_path / "a.run").write_text("q Q0 a 1 1.00000000001 x\nq Q0 b 2 1.0 x\n")
    run = read_run(tmp_path / "a.run")
    assert [name for name, _ in run["q"]] == ["b", "a"]
    qrels = {"q": {"a": 1}}
    theirs = pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank"}).evaluate({"q": {"a": 1.00000000001, "b": 1.0}})
    assert measure_run(["RR"], qrels, run)["RR"] == {"q": theirs["q"]["recip_rank"]} == {"q": 0.5}


@pytest.mark.parametrize("seed", range(3))
def test_a_written_run_scores_the_same_in_beir_and_in_pytrec_eval(tmp_path, seed):
    scores, qrels = random_run(seed, levels=1000)
    ordered = {
        query: sorted(found.items(), key=lambda item: item[::-1], reverse=True) for query, found in scores.items()
    }
    write_run(tmp_path / "a.run", ordered)
    mean = aggregate("nDCG@10", measure_run(["nDCG@10"], qrels, ordered)["nDCG@10"])
    with (tmp_path / "a.run").open(encoding="utf-8") as file:
        as_read = pytrec_eval.parse_run(file)
    theirs = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut_10"}).evaluate(as_read)
    assert mean == pytest.approx(np.mean([value["ndcg_cut_10"] for value in theirs.values()]), abs=1e-12)
    beir, _, _, _ = EvaluateRetrieval.evaluate(qrels, as_read, [10])
    assert mean == pytest.approx(beir["NDCG@10"], abs=5.1e-6)  # BEIR rounds to five digits


def test_a_reciprocal_rank_with_a_cutoff_takes_the_order_of_the_run():
    qrels = {"q": {"a": 1}}
    assert measure_run(["RR@10", "RR"], qrels, {"q": [("b", 1.0), ("a", 1.0)]}) == {
        "RR@10": {"q": 0.5},
        "RR": {"q": 0.5},
    }
    assert measure_run(["RR@10", "RR"], qrels, {"q": [("a", 1.0), ("b", 1.0)]}) == {
        "RR@10": {"q": 1.0},
        "RR": {"q": 1.0},
    }


def test_a_judged_query_without_results_counts_0_and_an_unjudged_one_nothing():
    qrels = {"found": {"d": 1}, "not found": {"d": 1}, "empty": {"d": 1}}
    run = {"found": [("d", 1.0)], "empty": [], "not judged": [("d", 1.0)]}
    values = measure_run(["nDCG@10", "R@100", "RR@10"], qrels, run)
    assert list(values) == ["nDCG@10", "R@100", "RR@10"]
    for name, value in values.items():
        assert value == {"found": 1.0, "not found": 0.0, "empty": 0.0}
        assert aggregate(name, value) == 1 / 3


def test_a_run_without_any_result_scores_0():
    assert measure_run(["nDCG@10", "RR@10"], {"q": {"d": 1}}, {}) == {"nDCG@10": {"q": 0.0}, "RR@10": {"q": 0.0}}


def test_ndcg_of_graded_and_negative_judgements_is_the_formula():
    qrels = {"q": {"a": 3, "b": 1, "c": -2, "missing": 2}}
    ideal = 3 + 2 / np.log2(3) + 1 / 2
    found = 1 / 1 + 3 / 2
    value = measure_run(["nDCG@10"], qrels, {"q": [("b", 9.0), ("c", 8.0), ("a", 7.0)]})["nDCG@10"]["q"]
    assert value == pytest.approx(found / ideal, abs=1e-12)


def test_measures_are_named_as_they_were_asked_for():
    values = measure_run(["MRR@10", "nDCG@10", "P(rel=2)@5"], {"q": {"d": 2}}, {"q": [("d", 1.0)]})
    assert values == {"MRR@10": {"q": 1.0}, "nDCG@10": {"q": 1.0}, "P(rel=2)@5": {"q": 0.2}}


def test_score_tells_what_is_missing(tmp_path):
    (tmp_path / "a.run").write_text("q1 Q0 a 1 2.0 x\nq1 Q0 b 2 1.0 x\nq9 Q0 a 1 1.0 x\n")
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq1\tb\t1\nq2\ta\t1\n")
    assert score_lines(score_run(tmp_path / "a.run", tmp_path / "qrels.tsv", ["RR@10", "R@1"])) == [
        "RR@10\t0.25",
        "R@1\t0.0",
        "queries\t2 judged, 1 of them not in the run; 1 in the run not judged",
    ]


def test_score_of_an_unknown_measure_is_one_clear_line(tmp_path):
    with pytest.raises(ProjheadsError, match='unknown measure "ndgc@10"'):
        score_run(tmp_path / "a.run", tmp_path / "qrels.tsv", ["ndgc@10"])


def test_counts_are_summed_as_ir_measures_does_and_the_rest_averaged(tmp_path):
    import ir_measures

    (tmp_path / "a.run").write_text("1 Q0 a 1 2.0 x\n1 Q0 b 2 1.0 x\n2 Q0 a 1 1.0 x\n")
    (tmp_path / "qrels").write_text("1 0 b 1\n1 0 c 1\n2 0 a 1\n")
    names = ["NumQ", "NumRel", "NumRet", "NumRet(rel=1)", "AP", "RR"]
    theirs = ir_measures.calc_aggregate(
        list(map(ir_measures.parse_measure, names)),
        list(ir_measures.read_trec_qrels(str(tmp_path / "qrels"))),
        list(ir_measures.read_trec_run(str(tmp_path / "a.run"))),
    )
    expected = [f"{name}\t{float(theirs[ir_measures.parse_measure(name)])!r}" for name in names]
    assert score_lines(score_run(tmp_path / "a.run", tmp_path / "qrels", names))[:-1] == expected
    assert expected[:4] == ["NumQ\t2.0", "NumRel\t3.0", "NumRet\t3.0", "NumRet(rel=1)\t2.0"]


EXPONENTIAL = "nDCG(dcg='exp-log2')@10"


@pytest.mark.parametrize("grade", [100_001, 2**31, 10**30, -100_001])
def test_grades_that_the_libraries_cannot_hold_are_refused(grade):
    limits = "grades must be at least -100000 and at most 100000"
    with pytest.raises(ProjheadsError, match=f'query "q": the grade of document "d" is {grade}; {limits}'):
        measure_run(["R@100"], {"q": {"d": grade}}, {"q": [("d", 1.0)]})


def test_grades_and_gains_at_the_limits_score_as_the_formula_says():
    qrels, run = {"q": {"d": 100_000, "e": 1}}, {"q": [("e", 2.0), ("d", 1.0)]}
    values = measure_run(["R@100", "nDCG@10"], qrels, run)
    second = 1 / np.log2(3)
    assert values["R@100"]["q"] == 1.0
    assert values["nDCG@10"]["q"] == pytest.approx((1 + 100_000 * second) / (100_000 + second), abs=1e-12)
    qrels = {"q": {"d": 20, "e": 1, "f": -100_000}}
    gain = 2**20 - 1
    value = measure_run([EXPONENTIAL], qrels, run)[EXPONENTIAL]["q"]
    assert value == pytest.approx((1 + gain * second) / (gain + second), abs=1e-12)
    with pytest.raises(
        ProjheadsError, match=r'"d" is 21; measure .*gains are 2\^grade - 1, needs grades of at most 20'
    ):
        measure_run([EXPONENTIAL], {"q": {"d": 21}}, run)
    with pytest.raises(ProjheadsError, match=r"gains must be at most 2\^20"):
        measure_run(["nDCG(gains={1:4294967296})@10"], {"q": {"d": 1}}, run)


ODD_IDS = ["d 1", "tab\there", "100%20", "é😀", "\u00a0", "007", '"quoted"', "-1"]


def odd_judgements():
    generator = np.random.default_rng(4)
    qrels, run = {}, {}
    for query in ["q 1", "é", "12", "a\tb"]:
        qrels[query] = {name: int(generator.integers(-1, 4)) for name in generator.permutation(ODD_IDS)[:6].tolist()}
        qrels[query][ODD_IDS[0]] = 3
        run[query] = [(name, float(-place)) for place, name in enumerate(generator.permutation(ODD_IDS).tolist())]
    return qrels, run


def by_hand(qrels, run, query, depth, gain):
    found = [gain(qrels[query].get(name, 0)) for name, _ in run[query][:depth]]
    ideal = sorted((gain(grade) for grade in qrels[query].values()), reverse=True)[:depth]
    first, second = (sum(value / np.log2(place + 2) for place, value in enumerate(values)) for values in (found, ideal))
    return first / second


def test_ndcg_with_exponential_gains_is_the_formula_unrounded_and_that_of_ranx():
    qrels, run = odd_judgements()
    name = "nDCG(dcg='exp-log2')@5"
    values = measure_run([name, "nDCG@5"], qrels, run)
    for measure, gain in ((name, lambda grade: 2.0 ** max(grade, 0) - 1), ("nDCG@5", lambda grade: max(grade, 0))):
        expected = {query: by_hand(qrels, run, query, 5, gain) for query in qrels}
        assert values[measure] == pytest.approx(expected, abs=1e-12)
    ranx = pytest.importorskip("ranx")
    positive = {query: {name: grade for name, grade in judged.items() if grade > 0} for query, judged in qrels.items()}
    theirs = ranx.evaluate(
        ranx.Qrels(positive), ranx.Run({query: dict(found) for query, found in run.items()}), "ndcg_burges@5"
    )
    assert aggregate(name, values[name]) == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize(
    "measure", ["AP", "Judged@10", "P(rel=2)@5", "Success@5", "Bpref", "Rprec", "infAP", "RR(rel=2)"]
)
def test_measures_do_not_depend_on_how_ids_are_spelled(measure):
    qrels, run = odd_judgements()
    plain = {name: f"d{place}" for place, name in enumerate(ODD_IDS)}
    queries = {name: f"q{place}" for place, name in enumerate(qrels)}
    expected = measure_run(
        [measure],
        {queries[query]: {plain[name]: grade for name, grade in judged.items()} for query, judged in qrels.items()},
        {queries[query]: [(plain[name], score) for name, score in found] for query, found in run.items()},
    )[measure]
    values = measure_run([measure], qrels, run)[measure]
    assert values == {query: expected[queries[query]] for query in qrels}
    assert any(values.values())


def test_a_measure_that_is_not_defined_for_a_query_is_one_clear_line():
    with pytest.raises(ProjheadsError, match="measure Accuracy: not defined for one of these queries"):
        measure_run(["Accuracy"], {"q": {"a": 1, "b": 1}}, {"q": [("a", 1.0), ("b", 0.5)]})


def test_trec_eval_reads_a_written_run_of_odd_ids_and_finds_the_same(tmp_path):
    qrels, run = odd_judgements()
    write_run(tmp_path / "a.run", run)
    with (tmp_path / "a.run").open(encoding="utf-8") as file:
        theirs = pytrec_eval.parse_run(file)
    encoded = {encode_id(q): {encode_id(d): grade for d, grade in judged.items()} for q, judged in qrels.items()}
    found = pytrec_eval.RelevanceEvaluator(encoded, {"ndcg_cut_5", "map", "bpref"}).evaluate(theirs)
    values = measure_run(["nDCG@5", "AP", "Bpref"], qrels, run)
    for ours, other in {"nDCG@5": "ndcg_cut_5", "AP": "map", "Bpref": "bpref"}.items():
        assert values[ours] == pytest.approx({query: found[encode_id(query)][other] for query in qrels}, abs=1e-12)


def test_odd_files_of_other_programs_are_read(tmp_path):
    (tmp_path / "beir.tsv").write_text('\ufeffqid\tdocid\trel\nq 1\t"tab\there"\t2\nq 1\té😀\t1\n007\t7\t-1\n', "utf-8")
    assert read_qrels(tmp_path / "beir.tsv") == {"q 1": {"tab\there": 2, "é😀": 1}, "007": {"7": -1}}
    (tmp_path / "trec.txt").write_text('q\t0\td\u00a01\t2\r\nq 0  "d"   1\n', "utf-8")
    assert read_qrels(tmp_path / "trec.txt") == {"q": {"d\u00a01": 2, '"d"': 1}}
    (tmp_path / "a.run").write_text("007\tQ0\td\u00a01\t1\t2.5\tx\n 7 Q0 é😀 1 1e-3 x \r\n", "utf-8")
    assert read_run(tmp_path / "a.run") == {"007": [("d\u00a01", 2.5)], "7": [("é😀", 0.001)]}


@pytest.mark.parametrize(
    "name, text, line",
    [
        ("a.run", "q Q0 a 1 2.0 x\nq Q0 b 2 1.0\n", "a.run line 2: a line of a run has 6 columns, not 5"),
        ("a.run", "q Q0 a 1 high x\n", 'a.run line 1: the score "high" is not a number'),
        (
            "qrels",
            "query-id\tcorpus-id\tscore\nq\td\n",
            "qrels line 2: a judgement has 3 columns (BEIR) or 4 (TREC), not 2",
        ),
        ("qrels", "q 0 d\u00a01 1\nq\n", "qrels line 2: a judgement has 3 columns (BEIR) or 4 (TREC), not 1 column"),
    ],
)
def test_score_tells_file_and_line_of_what_is_broken(tmp_path, name, text, line, capsys):
    (tmp_path / "a.run").write_text("q Q0 a 1 2.0 x\n")
    (tmp_path / "qrels").write_text("q 0 a 1\n")
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert run_command(main, ["score", str(tmp_path / "a.run"), str(tmp_path / "qrels")]) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1
