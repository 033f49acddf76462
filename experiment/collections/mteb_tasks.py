"""Retrieval tasks of mteb (Muennighoff et al., 2023, arXiv:2210.07316): where each is on the hub, at which revision.

The names, repositories and revisions are those of mteb 2.26.24.
"""

from dataclasses import dataclass

from projheads.errors import unknown_name

__all__ = ["MTEB_TASKS", "MtebTask", "find_task", "task_of_source"]


@dataclass(frozen=True)
class MtebTask:
    """One task.

    Attributes:
        repo: Its repository on the hub.
        revision: The commit that mteb pins.
        split: The split by which models are compared.
        layout: How the tables are stored: ``beir`` for corpus, queries and qrels with BEIR's columns, ``longembed``
            or ``bright``.
        config: What distinguishes it from other tasks in the same repository.
        same_as: The source of this program that has the same data in a different place.
        subset: What mteb calls its subset.
    """

    repo: str
    revision: str
    split: str = "test"
    layout: str = "beir"
    config: str | None = None
    same_as: str | None = None
    subset: str = "default"


_BEIR = (
    ("ArguAna", "arguana", "c22ab2a51041ffd869aaddef7af8d8215647e41a", "arguana"),
    ("ClimateFEVER", "climate-fever", "47f2ac6acb640fc46020b02a5b59fdda04d39380", "climate-fever"),
    ("DBPedia", "dbpedia", "c0f706b76e590d620bd6618b3ca8efdd34e2d659", "dbpedia-entity"),
    ("FEVER", "fever", "bea83ef9e8fb933d90a2f1d5515737465d613e12", "fever"),
    ("FiQA2018", "fiqa", "27a168819829fe9bcd655c2df245fb19452e8e06", "fiqa"),
    ("HotpotQA", "hotpotqa", "ab518f4d6fcca38d87c25209f94beba119d02014", "hotpotqa"),
    ("MSMARCO", "msmarco", "c5a29a104738b98a9e76336939199e264163d4a0", "msmarco"),
    ("NFCorpus", "nfcorpus", "ec0fa4fe99da2ff19ca1214b7966684033a58814", "nfcorpus"),
    ("NQ", "nq", "b774495ed302d8c44a3a7ea25c90dbce03968f31", "nq"),
    ("QuoraRetrieval", "quora", "e4e08e0b7dbe3c8700f0daef558ff32256715259", "quora"),
    ("SCIDOCS", "scidocs", "f8c2fcf00f625baaa80f62ec5bd9e1fff3b8ae88", "scidocs"),
    ("SciFact", "scifact", "d56462d0e63a25450459c4f213e49ffdb866f7f9", "scifact"),
    ("TRECCOVID", "trec-covid", "bb9466bac8153a0349341eb1b22e06409e78ef4e", "trec-covid"),
    ("Touche2020", "touche2020", "a34f9a33db75fa0cbb21bb5cfc3dae8dc8bec93f", "webis-touche2020"),
    ("CQADupstackAndroidRetrieval", "CQADupstackAndroidRetrieval", "9be4c0e46342e8e3aff577a89b9a1ec9bc6b4af3",
     "cqadupstack/android"),
    ("CQADupstackEnglishRetrieval", "cqadupstack-english", "ad9991cb51e31e31e430383c75ffb2885547b5f0",
     "cqadupstack/english"),
    ("CQADupstackGamingRetrieval", "cqadupstack-gaming", "4885aa143210c98657558c04aaf3dc47cfb54340",
     "cqadupstack/gaming"),
    ("CQADupstackGisRetrieval", "cqadupstack-gis", "5003b3064772da1887988e05400cf3806fe491f2", "cqadupstack/gis"),
    ("CQADupstackMathematicaRetrieval", "cqadupstack-mathematica", "90fceea13679c63fe563ded68f3b6f06e50061de",
     "cqadupstack/mathematica"),
    ("CQADupstackPhysicsRetrieval", "cqadupstack-physics", "79531abbd1fb92d06c6d6315a0cbbbf5bb247ea4",
     "cqadupstack/physics"),
    ("CQADupstackProgrammersRetrieval", "cqadupstack-programmers", "6184bc1440d2dbc7612be22b50686b8826d22b32",
     "cqadupstack/programmers"),
    ("CQADupstackStatsRetrieval", "cqadupstack-stats", "65ac3a16b8e91f9cee4c9828cc7c335575432a2a",
     "cqadupstack/stats"),
    ("CQADupstackTexRetrieval", "cqadupstack-tex", "46989137a86843e03a6195de44b09deda022eec7", "cqadupstack/tex"),
    ("CQADupstackUnixRetrieval", "cqadupstack-unix", "6c6430d3a6d36f8d2a829195bc5dc94d7e063e53", "cqadupstack/unix"),
    ("CQADupstackWebmastersRetrieval", "cqadupstack-webmasters", "160c094312a0e1facb97e55eeddb698c0abe3571",
     "cqadupstack/webmasters"),
    ("CQADupstackWordpressRetrieval", "cqadupstack-wordpress", "4ffe81d471b1924886b33c7567bfb200e9eec5c4",
     "cqadupstack/wordpress"),
)  # fmt: skip

_NANO = (
    ("ArguAna", "63ac9f026e8f6b85dc0622f3d630ed7a1758e9ec", "arguana"),
    ("ClimateFever", "ccb5552bc17e87afe0f9479fb4346898213a71db", "climatefever"),
    ("DBPedia", "2d088f80d7a640eac0be5c66408d68c3f782baa1", "dbpedia"),
    ("FEVER", "a6490dfeed0f13c2a052e39c6ddaeb6086afd4a8", "fever"),
    ("FiQA2018", "ede84da4793cd2d4e61bba0dd08fc58de90f3681", "fiqa2018"),
    ("HotpotQA", "a38a2615f29adba8b47a42905031aa9c137d8fae", "hotpotqa"),
    ("MSMARCO", "5a5aa0c3df65d6883d85c8f5cdc88e679633595e", "msmarco"),
    ("NFCorpus", "2eec9d63140fb9af7c75ad0fdbf6350aaf20e94e", "nfcorpus"),
    ("NQ", "e3973b405feb9e94d07fd971d690d24d7f45264a", "nq"),
    ("Quora", "3ee153e5710da83a7f35df0cb1db4a0ad036072a", "quoraretrieval"),
    ("SCIDOCS", "cf39b8741a6f2e984d0b8f4796b2dd5bb65390f9", "scidocs"),
    ("SciFact", "8c5f7bbe90bb865f46c67710221afa7d9096251b", "scifact"),
    ("Touche2020", "ff81c0caff8b6febe1495eae9f2ca3eddad074b8", "touche2020"),
)

_OTHERS = {
    "ClimateFEVERHardNegatives": MtebTask(
        "mteb/ClimateFEVER_test_top_250_only_w_correct-v2", "3a309e201f3c2c4b13bd4a367a8f37eee2ec1d21"
    ),
    "FEVERHardNegatives": MtebTask(
        "mteb/FEVER_test_top_250_only_w_correct-v2", "080c9ed6267b65029207906e815d44a9240bafca"
    ),
    "HotpotQAHardNegatives": MtebTask(
        "mteb/HotpotQA_test_top_250_only_w_correct-v2", "617612fa63afcb60e3b134bed8b7216a99707c37"
    ),
    "Touche2020Retrieval.v3": MtebTask("mteb/webis-touche2020-v3", "431886eaecc48f067a3975b70d0949ea2862463c"),
    "LIMITRetrieval": MtebTask("orionweller/LIMIT", "48142cc741b04d0b4af370ade7e8b42430382670"),
    "LIMITSmallRetrieval": MtebTask("orionweller/LIMIT-small", "ff4a8f2476ae77476c1912f1f3cb5bb5f2d766d4"),
}

_BRIGHT = (
    "Biology", "EarthScience", "Economics", "Psychology", "Robotics", "Stackoverflow", "SustainableLiving", "Pony",
    "Leetcode", "Aops", "TheoremQATheorems", "TheoremQAQuestions",
)  # fmt: skip

_LOTTE = tuple(
    f"{topic}_{kind}"
    for topic in ("writing", "recreation", "science", "technology", "lifestyle")
    for kind in ("search", "forum")
)

_LONG = "6e346642246bfb4928c560ee08640dc84d074e8c"
_PASSKEY = "86ac5a6437198a94ecd666440c78b3e78f258274"
_LENGTHS = (256, 512, 1024, 2048, 4096, 8192, 16384, 32768)

_LONG_TEXTS = (
    ("LEMBNarrativeQARetrieval", "narrativeqa", "test"),
    ("LEMBQMSumRetrieval", "qmsum", "test"),
    ("LEMBSummScreenFDRetrieval", "summ_screen_fd", "validation"),
    ("LEMBWikimQARetrieval", "2wikimqa", "test"),
)


def _domain(name: str) -> str:
    """Return BRIGHT's own name of a domain: ``EarthScience`` is ``earth_science``."""
    spelled = name.replace("TheoremQA", "Theoremqa")
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in spelled).lstrip("_")


def _all_tasks() -> dict[str, MtebTask]:
    tasks = {
        name: MtebTask(f"mteb/{repo}", revision, "dev" if name == "MSMARCO" else "test", same_as=f"beir:{source}")
        for name, repo, revision, source in _BEIR
    }
    tasks |= {
        f"Nano{name}Retrieval": MtebTask(f"mteb/Nano{name}Retrieval", revision, "train", same_as=f"nano:{source}")
        for name, revision, source in _NANO
    }
    tasks |= _OTHERS
    tasks |= {
        f"Bright{name}Retrieval": MtebTask(
            "mteb/BRIGHT", "c26703e6600d97c579ee2985f16cf307db13ed85", "standard", "bright", _domain(name)
        )
        for name in _BRIGHT
    }
    tasks |= {
        f"LoTTE/{part}": MtebTask("mteb/LoTTE", "a887e9f8e3d24427fdff98c8bba3198a6853a929", config=part, subset=part)
        for part in _LOTTE
    }
    tasks |= {
        name: MtebTask("dwzhu/LongEmbed", _LONG, split, "longembed", config) for name, config, split in _LONG_TEXTS
    }
    for length in _LENGTHS:
        split = f"test_{length}"
        tasks[f"LEMBNeedleRetrieval/{length}"] = MtebTask("dwzhu/LongEmbed", _LONG, split, "longembed", "needle")
        tasks[f"LEMBPasskeyRetrieval/{length}"] = MtebTask("mteb/LEMBPasskeyRetrieval", _PASSKEY, split)
    return tasks


MTEB_TASKS = _all_tasks()
"""The tasks by name. A task of several collections has one entry for each, ``<task>/<part>``."""


def find_task(name: str) -> MtebTask:
    """Return a task.

    Raises:
        UnknownNameError: If it is not in the table.
    """
    if name not in MTEB_TASKS:
        raise unknown_name("mteb task", name, MTEB_TASKS)
    return MTEB_TASKS[name]


def task_of_source(source: str) -> str | None:
    """Return the name of the task that a source's data belong to; None if mteb has none."""
    if source.startswith("mteb:"):
        return source.removeprefix("mteb:")
    return next((name for name, task in MTEB_TASKS.items() if task.same_as == source), None)
