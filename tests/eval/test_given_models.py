"""Any model through ``python -m eval --model``, against what its own host encodes."""

import json
import shutil

import numpy as np
import pytest
import torch

import eval.embed
import eval.evaluator
from eval.__main__ import main
from eval.encoding_work import EncodingWork
from eval.runs import read_run
from experiment.console.command import run_command
from experiment.disk.layout import ExperimentFolder
from experiment.disk.records import EvaluationRecord
from experiment.needs import Backbone
from projheads.build import build_head
from projheads.export import export_model
from projheads.hosts import available_hosts, load_host
from projheads.hosts.base import EncodingSettings
from tests.eval.report.factory import Plan, make_experiment, trial_record, write_eval

TEXTS = [
    "the cat sat on the mat",
    "",
    "Paris, the capital of France!",
    "where is the red dog; what is blue?",
    ". . .",
    "rain " * 300,
    "sun",
    "Ünïcode 漢字 \u00a0 tab\there",
    "a bird and a dog walk",
]
QUERIES = {"q": "what is the capital of france", "7": "cat", "r": "the dog, the bird"}
JUDGED = {"q": "2", "7": "0", "r": "8"}


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    (folder / "qrels").mkdir(parents=True)
    corpus = [{"_id": str(place), "text": text} for place, text in enumerate(TEXTS)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(record) + "\n" for record in corpus))
    queries = [{"_id": name, "text": text} for name, text in QUERIES.items()]
    (folder / "queries.jsonl").write_text("".join(json.dumps(record) + "\n" for record in queries))
    rows = "".join(f"{query}\t{document}\t1\n" for query, document in JUDGED.items())
    for split in ("test", "dev"):
        (folder / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + rows)
    return folder


def stock(host, backbone, path, seed=0):
    """Save a checkpoint as the host's own users do, without any code of ours, and with its own settings."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if host == "pylate":
            from pylate.models import ColBERT

            model = ColBERT(
                str(backbone),
                embedding_size=16,
                query_prefix="[unused0]",
                document_prefix="[unused1]",
                query_length=12,
                document_length=20,
                do_query_expansion=True,
                skiplist_words=["the", "!"],
                device="cpu",
            )
        else:
            from sentence_transformers import MultiVectorEncoder
            from sentence_transformers.base.modules import Dense, Normalize, Transformer
            from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

            transformer = Transformer(str(backbone))
            transformer.document_length = 20
            transformer.query_expansion = {"strategy": "fixed", "attend": False, "length": 12}
            dense = Dense(32, 16, bias=False, activation_function=None, module_input_name="token_embeddings")
            parts = [transformer, dense, MultiVectorMask(["the", "!"]), Normalize("token_embeddings")]
            prompts = {"query": "what ", "document": "a "}
            model = MultiVectorEncoder(modules=parts, device="cpu", prompts=prompts, similarity_fn_name="maxsim")
        model.save(str(path))
    return path


def encoded(host, path, texts, *, is_query):
    """The host's own embeddings of texts, opened as its users open it."""
    if host == "pylate":
        from pylate.models import ColBERT

        return ColBERT(str(path), device="cpu").encode(texts, is_query=is_query, show_progress_bar=False)
    from sentence_transformers import MultiVectorEncoder

    model = MultiVectorEncoder(str(path), device="cpu", trust_remote_code=True)
    return (model.encode_query if is_query else model.encode_document)(texts, convert_to_numpy=True)


def evaluate(tmp_path, *arguments):
    return run_command(main, [*map(str, arguments), f"cache={tmp_path}/cache", "device=cpu"])


def only(output):
    (folder,) = ExperimentFolder(output).trials()
    return folder


@pytest.mark.parametrize("ours", [False, True])
@pytest.mark.parametrize("host", available_hosts())
def test_scores_are_maxsim_of_what_the_host_encodes(host, ours, backbone, data, tmp_path, capsys):
    path = tmp_path / "model"
    if ours:
        settings = EncodingSettings(query_length=10, document_length=24, query_expansion=False, skiplist=("dog",))
        load_host(host).create(str(backbone), build_head("ffn", 32, 16), settings).save(path)
    else:
        stock(host, backbone, path)
    assert evaluate(tmp_path, "--model", path, "--datasets", data, "--output", tmp_path / "out") == 0
    captured = capsys.readouterr()
    assert f"a {host} model, 32 -> 16 features" in captured.out
    queries = encoded(host, path, list(QUERIES.values()), is_query=True)
    documents = encoded(host, path, TEXTS, is_query=False)
    files = only(tmp_path / "out")
    run = read_run(files.eval_run("data"))
    assert list(run) == list(QUERIES)
    for name, rows in zip(QUERIES, queries, strict=True):
        # Also document 7 for query 7, whose text is different.
        expected = {str(place): (rows @ text.T).max(1).sum() for place, text in enumerate(documents)}
        assert dict(run[name]) == pytest.approx(expected, abs=len(rows) * 2**-9)  # embeddings are kept as float16
    record = json.loads(files.eval_json("data").read_text())
    assert record["truncated"]["documents"] >= 1
    assert len(record["dataset"]["hash"]) == 64
    about = files.read_trial()
    assert about.parameters == about.multiply_adds == 512 if not ours else about.parameters > 512
    assert f"{100 * record['means']['nDCG@10']:.2f}" in captured.out


@pytest.mark.parametrize("host", available_hosts())
@pytest.mark.parametrize("saved", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_precision_is_that_of_the_setting_not_of_the_saved_weights(
    host, backbone, data, tmp_path, saved, precision
):
    model = load_host(host).create(str(backbone), build_head("ffn", 32, 16), EncodingSettings(query_length=10))
    model.native.to(saved)
    model.save(tmp_path / "model")
    arguments = ["--model", tmp_path / "model", "--datasets", data, "--output", tmp_path / "out", "eval.vectors=fp32"]
    assert evaluate(tmp_path, *arguments, f"eval.precision={precision}") == 0
    model.native.float()
    queries = model.encode(list(QUERIES.values()), is_query=True)
    documents = model.encode(TEXTS, is_query=False)
    run = read_run(only(tmp_path / "out").eval_run("data"))
    for name, rows in zip(QUERIES, queries, strict=True):
        expected = {str(place): (rows @ text.T).max(1).sum() for place, text in enumerate(documents)}
        assert dict(run[name]) == pytest.approx(expected, abs=1e-5 if precision == "fp32" else 0.3)


def test_a_revision_and_trust_belong_to_one_model(backbone, data, tmp_path, monkeypatch, capsys):
    """Two revisions of one hub model, and code that may run in one model only."""
    import huggingface_hub

    host = available_hosts()[0]
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    repository = tmp_path / "hub" / "models--some--model"
    (repository / "refs").mkdir(parents=True)
    for seed, (name, commit) in enumerate({"main": "a" * 40, "v1": "b" * 40}.items()):
        stock(host, backbone, repository / "snapshots" / commit, seed)
        (repository / "refs" / name).write_text(commit)
    arguments = ["--datasets", data, "--output", tmp_path / "out"]
    assert evaluate(tmp_path, "--model", "some/model", "--model", "some/model@v1", *arguments) == 0
    records = [files.read_trial() for files in ExperimentFolder(tmp_path / "out").trials()]
    assert {record.checkpoint for record in records} == {"some/model", "some/model@v1"}
    assert len({record.weights_hash for record in records}) == 2
    assert evaluate(tmp_path, "--model", "some/model@v2", *arguments) == 2
    capsys.readouterr()

    file = repository / "snapshots" / ("b" * 40) / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_type": "own", "auto_map": {"AutoModel": "x.X"}}))
    models = ["--model", "some/model", "--model", "some/model@v1", *arguments]
    assert evaluate(tmp_path, *models, "--trust-remote-code", "some/model") == 2
    assert "brings its own code (auto_map)" in capsys.readouterr().err
    assert evaluate(tmp_path, *models, "--trust-remote-code", "some/model@v1") == 2
    assert "brings its own code" not in capsys.readouterr().err
    assert evaluate(tmp_path, *models, "--trust-remote-code", "other") == 2
    assert '"other" is not one of the models' in capsys.readouterr().err


def test_verify_takes_the_folder_of_given_models(two, data, tmp_path, capsys):
    out = tmp_path / "out"
    assert evaluate(tmp_path, "--model", two[0], "--model", two[1], "--datasets", data, "--output", out) == 0
    assert run_command(main, [str(out), "--verify"]) == 0
    assert "all 8 models, stores and evaluations are intact" in " ".join("".join(capsys.readouterr()).split())
    run = ExperimentFolder(out).trials()[0].eval_run("data")
    run.write_text(run.read_text().replace(" 1 ", " 2 ", 1).replace("Q0 2", "Q0 1"))
    weights = next(two[1].rglob("1_*/model.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    assert run_command(main, [str(out), "--verify"]) == 2
    assert f"{two[1]}: damaged, or changed since it was evaluated" in " ".join("".join(capsys.readouterr()).split())


@pytest.fixture
def two(backbone, tmp_path):
    """Two checkpoints of the first host that is installed, under the names ``a`` and ``b``."""
    return [stock(available_hosts()[0], backbone, tmp_path / name, seed) for seed, name in enumerate("ab")]


def test_two_models_are_compared_and_the_answer_is_about_these_two(two, data, tmp_path, capsys):
    arguments = ["--model", two[0], "--model", two[1], "--datasets", data, "--output", tmp_path / "out"]
    assert evaluate(tmp_path, *arguments) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "about" in out
    assert "These models, one seed each: " in out
    board = json.loads((tmp_path / "out/report/leaderboard.json").read_text())
    rows = {row["label"]: row for row in board["rows"]}
    assert board["baseline"] == str(two[0])
    means = {
        trial.read_trial().label: json.loads(trial.eval_json("data").read_text())["measures"]["nDCG@10"]
        for trial in ExperimentFolder(tmp_path / "out").trials()
    }
    paired = np.mean([means[str(two[1])][query] - means[str(two[0])][query] for query in QUERIES])
    verdict = rows[str(two[1])]["verdict"]
    assert verdict["difference"] == pytest.approx(paired)
    assert verdict["word"] == "too few seeds"
    assert rows[str(two[1])]["costs"]["train_s"] is None


def test_nothing_is_encoded_or_evaluated_twice(two, data, tmp_path, capsys, monkeypatch):
    arguments = ["--model", two[0], "--datasets", data, "--output", tmp_path / "out"]
    assert evaluate(tmp_path, *arguments) == 0
    first = only(tmp_path / "out").eval_run("data").read_bytes()

    def forbidden(*arguments, **options):
        raise AssertionError("a text was encoded again")

    monkeypatch.setattr("experiment.encoding.tokens._Encoder.fill", forbidden)
    assert evaluate(tmp_path, *arguments) == 0
    assert "all 1 evaluations are finished; nothing to do" in capsys.readouterr().out
    nothing = EncodingWork(0.0, 1.0, 1.0, 0.0, Backbone(0, 0, 1))
    monkeypatch.setattr(eval.embed.SubjectEncoder, "measure", lambda self, subject: nothing)
    assert evaluate(tmp_path, *arguments, "--measures", "AP", "--measures", "RR@10") == 0
    record = json.loads(only(tmp_path / "out").eval_json("data").read_text())
    assert list(record["means"]) == ["AP", "RR@10"]
    assert only(tmp_path / "out").eval_run("data").read_bytes() == first


def test_an_evaluation_that_was_stopped_goes_on_to_the_same_bytes(two, data, tmp_path, monkeypatch):
    arguments = ["--model", two[0], "--model", two[1], "--datasets", data, "--output"]
    assert evaluate(tmp_path, *arguments, tmp_path / "whole") == 0
    shutil.rmtree(tmp_path / "cache")
    real, written = eval.evaluator.write_run, []

    def stopping(path, run):
        if written:
            raise KeyboardInterrupt
        written.append(path)
        real(path, run)

    with monkeypatch.context() as patch:
        patch.setattr(eval.evaluator, "write_run", stopping)
        assert evaluate(tmp_path, *arguments, tmp_path / "out") == 130
    assert evaluate(tmp_path, *arguments, tmp_path / "out") == 0
    runs = [sorted(file.read_bytes() for file in (tmp_path / name).rglob("*.run")) for name in ("whole", "out")]
    assert runs[0] == runs[1]
    assert len(runs[0]) == 2


def test_a_later_command_reports_what_it_asks_for_and_keeps_the_rest(two, data, tmp_path, capsys):
    shutil.copytree(data, tmp_path / "more")
    output = ["--output", tmp_path / "out"]
    assert evaluate(tmp_path, "--model", two[0], "--datasets", data, *output) == 0
    assert evaluate(tmp_path, "--model", two[1], "--datasets", tmp_path / "more", *output) == 0
    capsys.readouterr()
    assert run_command(main, ["report", str(tmp_path / "out")]) == 0
    out = "".join(capsys.readouterr().out.split())
    assert str(two[1]) in out
    assert str(two[0]) not in out
    assert len(list((tmp_path / "out").rglob("*.run"))) == 2


def experiment_on(data, path, queries=QUERIES):
    """An experiment whose results are on the very data set."""
    from experiment.collections import open_collection

    make_experiment(path, Plan(effects={"linear": 0.0}, seeds=(3, 4, 5), datasets=("data",), references=()))
    for trial in ExperimentFolder(path).trials():
        write_eval(trial, "data", np.linspace(0, 1, len(QUERIES)), Plan())
        record = EvaluationRecord.read(trial.eval_json("data"))
        dataset = record.dataset.replace(hash=open_collection(str(data), split="test").hash)
        measures = {
            measure: dict(zip(queries, scores.values(), strict=True)) for measure, scores in record.measures.items()
        }
        record.replace(dataset=dataset, measures=measures).write(trial.eval_json("data"))
    return path


def test_a_checkpoint_is_compared_with_an_experiment(two, data, tmp_path, capsys):
    assert evaluate(tmp_path, "--model", two[0], "--datasets", data, "--output", tmp_path / "bare") == 0
    experiment = experiment_on(data, tmp_path / "trained")
    for folders in ([experiment, tmp_path / "bare"], [tmp_path / "bare", experiment]):
        assert run_command(main, ["compare", *map(str, folders), "--output", str(tmp_path / "both")]) == 0
        rows = json.loads((tmp_path / "both/leaderboard.json").read_text())["rows"]
        labels = {row["label"]: row for row in rows}
        assert labels.keys() == {f"bare: {two[0]}", "trained: linear"}
        (verdict,) = [row["verdict"] for row in rows if row["verdict"]]
        assert min(verdict["seeds"], verdict["baseline_seeds"]) == 1


def test_a_models_folder_is_named_by_the_parts_of_its_path_that_fit(two, data, tmp_path):
    path = tmp_path / ("outer" * 9) / "inner folder" / "model"
    shutil.copytree(two[0], path)
    assert evaluate(tmp_path, "--model", path, "--datasets", data, "--output", tmp_path / "out") == 0
    name, _, code = only(tmp_path / "out").path.parent.name.rpartition("-")
    assert (name, len(code)) == ("inner-folder-model", 8)


def test_a_trial_whose_model_is_not_what_was_saved_is_refused(two, data, tmp_path, capsys):
    trial_record("linear", 0, 0, None).write(two[0].parent / "trial.json")
    assert evaluate(tmp_path, "--model", two[0], "--datasets", data, "--output", tmp_path / "out") == 2
    assert f"{two[0]}: damaged (its files are not those that training saved)" in capsys.readouterr().err


def test_what_cannot_be_paired_is_refused_with_the_reason(two, data, tmp_path, capsys):
    assert evaluate(tmp_path, "--model", two[0], "--datasets", data, "--output", tmp_path / "bare") == 0
    other_queries = experiment_on(data, tmp_path / "queries", ["q", "7", "other"])
    other_content = make_experiment(tmp_path / "content", Plan(datasets=("data",), queries=3))
    assert (
        evaluate(tmp_path, "--model", two[1], "--datasets", data, "--output", tmp_path / "ap", "--measures", "AP") == 0
    )
    for folder, reason in (
        (other_queries, "scored on different queries"),
        (other_content, "its content differs between bare and content (hash)"),
        (tmp_path / "ap", "was not scored with nDCG@10"),
    ):
        capsys.readouterr()
        assert run_command(main, ["compare", str(tmp_path / "bare"), str(folder)]) == 2
        assert reason in capsys.readouterr().err


def bi_encoder(path):
    modules = [{"path": "", "type": f"sentence_transformers.models.{name}"} for name in ("Transformer", "Pooling")]
    path.mkdir()
    (path / "config.json").write_text('{"architectures": ["BertModel"]}')
    (path / "modules.json").write_text(json.dumps(modules))
    return path


@pytest.mark.parametrize("host", available_hosts())
def test_code_of_a_model_does_not_run_without_trust(host, backbone, data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    path = stock(host, backbone, tmp_path / "model")
    (path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    modules = json.loads((path / "modules.json").read_text())
    modules[1]["type"] = "evil.Dense"
    (path / "modules.json").write_text(json.dumps(modules))
    arguments = ["--model", path, "--host", host, "--datasets", data, "--output", tmp_path / "out"]
    assert evaluate(tmp_path, *arguments) == 2
    assert 'names the class "evil.Dense", whose code would run' in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()
    assert evaluate(tmp_path, *arguments, "trust_remote_code=true") == 2, "the class is of no use"
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("host", available_hosts())
def test_stanfords_layout_has_the_scores_of_the_model_it_was_made_from(host, backbone, data, tmp_path):
    settings = EncodingSettings(query_length=10, document_length=24)
    load_host(host).create(str(backbone), build_head("linear", 32, 16), settings).save(tmp_path / "model")
    export_model(str(tmp_path / "model"), tmp_path / "stanford", to="stanford")
    runs = []
    for name in ("model", "stanford"):
        arguments = [
            "--model",
            tmp_path / name,
            "--host",
            host,
            "--datasets",
            data,
            "--output",
            tmp_path / f"{name}-out",
        ]
        assert evaluate(tmp_path, *arguments) == 0
        runs.append(read_run(only(tmp_path / f"{name}-out").eval_run("data")))
    for query, ranking in runs[0].items():
        assert dict(runs[1][query]) == pytest.approx(dict(ranking), abs=1e-2)


def test_what_is_no_multi_vector_checkpoint_is_one_clear_line(backbone, data, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "empty").mkdir()
    unknown = bi_encoder(tmp_path / "unknown")
    (unknown / "modules.json").write_text('[{"path": "", "type": "sentence_transformers.models.Transformer"}]')
    cases = {
        bi_encoder(tmp_path / "bi"): "is a bi-encoder, with one vector per text (Transformer, Pooling)",
        backbone: "is a bare backbone without a projection",
        tmp_path / "empty": "has neither modules.json nor config",
        unknown: "name its host with --host",
        "someone/no-such-model": "not on this machine",
        tmp_path / "not there": "no such folder",
    }
    for model, line in cases.items():
        assert evaluate(tmp_path, "--model", model, "--datasets", data, "--output", tmp_path / "out") == 2
        captured = capsys.readouterr()
        assert line in captured.err
        assert len(captured.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments, line",
    [
        (["--measures", "nDGC@10"], 'unknown measure "nDGC@10"'),
        (["--index", "IVF0x"], "could not parse"),
        (["--split", "tset"], 'unknown split "tset"'),
        (["--host", "colbert"], "host"),
        (["eval.depht=3"], 'did you mean "depth"?'),
        (["eval.references=[bm25]"], "reference rows belong to an experiment"),
        (["--datasets", "pydoks"], 'did you mean "pydocs"?'),
        (["pydocs"], "pydocs: not of the form key=value; repeat an option for each of its values"),
    ],
)
def test_mistakes_are_one_clear_line(two, data, tmp_path, capsys, arguments, line):
    given = ["--model", two[0], "--datasets", data, "--output", tmp_path / "out", *arguments]
    assert evaluate(tmp_path, *given) == 2
    error = capsys.readouterr().err
    assert line in error
    assert "Traceback" not in error
    assert not list((tmp_path / "out").rglob("*.run"))


def test_an_experiments_folder_is_not_written_to(two, data, tmp_path, capsys):
    experiment = make_experiment(tmp_path / "trained")
    assert evaluate(tmp_path, "--model", two[0], "--datasets", data, "--output", experiment) == 2
    assert "holds an experiment" in capsys.readouterr().err


def test_another_split_and_one_model_given_twice(two, data, tmp_path, capsys):
    given = ["--datasets", data, "--output", tmp_path / "out", "--split", "dev"]
    assert evaluate(tmp_path, "--model", two[0], "--model", two[0], *given) == 2
    assert "a model is listed twice" in capsys.readouterr().err
    assert evaluate(tmp_path, "--model", two[0], *given) == 0
    assert json.loads(only(tmp_path / "out").eval_json("data").read_text())["dataset"]["split"] == "dev"
