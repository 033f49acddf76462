"""Token states of the training texts, for a frozen backbone: computed once, kept in the cache for all trials."""

import time
from pathlib import Path

from experiment.folder import sha256_json
from experiment.progress import Progress, human_time
from experiment.tokens import encode_tokens
from train.embed import FrozenEmbedder
from train.setting import Setting

__all__ = ["open_states", "states_at_hand"]


def states_at_hand(setting: Setting) -> bool:
    """Tell whether the cache holds the token states, at least in part."""
    return all((_folder(setting, key) / "store.json").exists() for key in _keys(setting))


def open_states(setting: Setting, progress: Progress) -> FrozenEmbedder:
    """Open the token states of the training texts in the cache, or compute them into it."""
    config, data = setting.config, setting.data
    keys = _keys(setting)
    stores = []
    for is_query, texts, key in ((True, data.queries, keys[0]), (False, data.documents, keys[1])):
        what = f"{len(texts)} training {'queries' if is_query else 'documents'}"
        started = time.perf_counter()
        with progress.step(f"token states of {what}", len(texts)) as advance:
            store = encode_tokens(
                setting.model,
                texts,
                is_query=is_query,
                project=False,
                precision=config.train.precision,
                folder=_folder(setting, key),
                key=key,
                progress=advance,
            )
        cut = f"; {store.truncated} are longer than the model takes and were cut" if store.truncated else ""
        progress.say(f"token states of {what}: {human_time(time.perf_counter() - started)}{cut}")
        stores.append(store)
    queries, documents = stores
    return FrozenEmbedder(queries, documents, setting.model.device)


def _keys(setting: Setting) -> list[str]:
    """Name the token states of the training's queries and documents by what they are computed from."""
    config, data = setting.config, setting.data
    shared = [setting.backbone_hash, config.model.model_dump(mode="json"), config.train.precision]
    return [sha256_json([*shared, texts]) for texts in (data.queries, data.documents)]


def _folder(setting: Setting, key: str) -> Path:
    return setting.config.cache / "states" / key[:32]
