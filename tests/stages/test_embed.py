"""The text stage: what each encoder writes, and what it says when it cannot."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_tensors

from pipeline_lib.config.text import TextEncoder
from pipeline_lib.errors import UserError
from pipeline_lib.stages.acquire_encoder import run as acquire_encoder
from pipeline_lib.stages.acquire_encoder.settings import Settings as AcquireEncoderSettings
from pipeline_lib.stages.command import stage_command
from pipeline_lib.stages.embed import run as text
from pipeline_lib.stages.embed.settings import Settings as EmbedSettings
from pipeline_lib.text.embeddings import read_embeddings

ROIS = ("liver", "liver_tumor", "spleen")
TEXTS = ("liver", "liver tumor", "spleen")
SHARED = Path(__file__).parents[3] / "shared" / "data" / "text"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:52cc993c\nsize 783705670\n"


def settings(encoder, **changes):
    return EmbedSettings(
        rois=ROIS, texts=TEXTS, prompt="A scan of a {}", name="mine", encoder=TextEncoder(**encoder), tasks=()
    ).model_copy(update=changes)


def run(wanted, tmp_path, weights=()):
    """Run the stage; the embeddings as an array, and the file's metadata."""
    path = tmp_path / "out" / "mine.safetensors"
    text.run(wanted, text.Inputs(weights=weights), text.Outputs(embeddings=path))
    with safe_open(path, "np") as file:
        return file.get_tensor("embeddings"), file.metadata()


def complaint(wanted, tmp_path, weights=()):
    """The one line that the stage ends with; nothing may be written."""
    with pytest.raises(UserError) as error:
        run(wanted, tmp_path, weights)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("out/*"))
    return str(error.value)


@pytest.fixture(scope="session")
def open_clip():
    """The library, which a torchvision of another build than torch's breaks."""
    try:
        import open_clip
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"open_clip cannot be imported: {error}")
    return open_clip


@pytest.fixture(scope="session")
def clip_folder(open_clip, tmp_path_factory):
    """A whole open_clip model with random weights, of the smallest size."""
    folder = tmp_path_factory.mktemp("clip")
    model = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
    }
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, "preprocess_cfg": {}}))
    torch.manual_seed(0)
    save_tensors(open_clip.CLIP(**model).state_dict(), folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture
def no_network(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_wordllama_needs_no_network(no_network, tmp_path):
    embeddings, metadata = run(settings({"kind": "wordllama"}), tmp_path)
    assert embeddings.shape == (3, 256)
    assert embeddings.dtype == np.float32
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    similarity = unit @ unit.T
    # It knows words: a liver tumour is nearer to a liver than a spleen is.
    assert similarity[0, 1] > similarity[0, 2]
    assert json.loads(metadata["rois"]) == list(ROIS)
    assert json.loads(metadata["prompts"]) == ["A scan of a liver", "A scan of a liver tumor", "A scan of a spleen"]
    assert json.loads(metadata["encoder"])["kind"] == "wordllama"
    assert len(metadata["weights_sha256"]) == 64


def test_the_same_settings_write_the_same_bytes(tmp_path):
    files = []
    for place in ("a", "b"):
        run(settings({"kind": "wordllama"}), tmp_path / place)
        files.append((tmp_path / place / "out" / "mine.safetensors").read_bytes())
    assert files[0] == files[1]


def test_open_clip_reads_a_local_folder(open_clip, clip_folder, no_network, tmp_path):
    weights = clip_folder / "open_clip_model.safetensors"
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    encoder = {"kind": "open_clip", "model": f"local-dir:{clip_folder}", "sha256": sha256}
    embeddings, metadata = run(settings(encoder), tmp_path)
    network = open_clip.create_model(f"local-dir:{clip_folder}").eval()
    with torch.no_grad():
        expected = network.encode_text(open_clip.tokenize([f"A scan of a {roi}" for roi in TEXTS], 16))
    np.testing.assert_allclose(embeddings, expected, rtol=1e-5, atol=1e-6)
    assert metadata["weights_sha256"] == sha256


def test_biomedclip_reads_what_acquire_fetched(clip_folder, no_network, tmp_path):
    named, _ = run(settings({"kind": "biomedclip", "model": str(clip_folder)}), tmp_path)
    fetched, _ = run(settings({"kind": "biomedclip"}), tmp_path, weights=(clip_folder,))
    assert named.shape == (3, 16)
    np.testing.assert_array_equal(named, fetched)


@pytest.fixture
def built_in_weights(open_clip, tmp_path):
    """Weights of a model `tiny-clip` that open_clip knows by name."""
    model = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
    }
    (tmp_path / "tiny-clip.json").write_text(json.dumps(model))
    open_clip.add_model_config(tmp_path)
    torch.save(open_clip.CLIP(**model).state_dict(), tmp_path / "weights.pt")
    return tmp_path / "weights.pt"


def test_a_built_in_model_with_a_weights_file(built_in_weights, tmp_path):
    encoder = {"kind": "open_clip", "model": "tiny-clip", "pretrained": str(built_in_weights)}
    assert not TextEncoder(**encoder).is_downloaded
    assert run(settings(encoder), tmp_path)[0].shape == (3, 16)


def acquired(encoder, folder):
    """What the stage acquire_encoder makes of it."""
    chosen = TextEncoder(**encoder)
    assert chosen.is_downloaded
    settings = AcquireEncoderSettings(name="mine", encoder=chosen)
    acquire_encoder.run(settings, acquire_encoder.Inputs(), acquire_encoder.Outputs(folder))
    return folder


def test_a_model_of_the_hub_is_fetched_beforehand(clip_folder, no_network, tmp_path, monkeypatch):
    def download(repository, allow_patterns, local_dir):
        assert repository == "somebody/clip"
        return shutil.copytree(clip_folder, local_dir, dirs_exist_ok=True)

    encoder = {"kind": "open_clip", "model": "hf-hub:somebody/clip"}
    with monkeypatch.context() as online:
        online.setattr("huggingface_hub.snapshot_download", download)
        fetched = acquired(encoder, tmp_path / "encoders" / "mine")
    embeddings, _ = run(settings(encoder), tmp_path, weights=(fetched,))
    local, _ = run(settings({"kind": "open_clip", "model": f"local-dir:{clip_folder}"}), tmp_path)
    np.testing.assert_array_equal(embeddings, local)


def test_the_published_weights_of_a_built_in_model_are_fetched_beforehand(built_in_weights, tmp_path, monkeypatch):
    encoder = {"kind": "open_clip", "model": "tiny-clip", "pretrained": "published"}
    with monkeypatch.context() as online:
        online.setattr("open_clip.list_pretrained_tags_by_model", lambda model: ["published"])
        online.setattr("open_clip.download_pretrained", lambda config: str(built_in_weights))
        fetched = acquired(encoder, tmp_path / "encoders" / "mine")
    embeddings, _ = run(settings(encoder), tmp_path, weights=(fetched,))
    local, _ = run(settings({**encoder, "pretrained": str(built_in_weights)}), tmp_path)
    np.testing.assert_array_equal(embeddings, local)


def test_vectors_from_npy_are_kept_as_they_are(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(3, 8))
    np.save(tmp_path / "vectors.npy", vectors)
    embeddings, metadata = run(settings({"kind": "file", "model": str(tmp_path / "vectors.npy")}), tmp_path)
    np.testing.assert_array_equal(embeddings, vectors.astype(np.float32))
    assert metadata["weights_sha256"] == hashlib.sha256((tmp_path / "vectors.npy").read_bytes()).hexdigest()


def test_vectors_from_safetensors_are_found_by_name(tmp_path):
    vectors = np.eye(4, 8, dtype=np.float32)
    names = json.dumps(["spleen", "aorta", "liver_tumor", "liver"])
    save_file({"embeddings": vectors}, tmp_path / "vectors.safetensors", metadata={"rois": names})
    embeddings, _ = run(settings({"kind": "file", "model": str(tmp_path / "vectors.safetensors")}), tmp_path)
    np.testing.assert_array_equal(embeddings, vectors[[3, 2, 0]])


def test_the_stages_own_output_is_a_file_of_vectors(tmp_path):
    first, _ = run(settings({"kind": "wordllama"}), tmp_path / "first")
    path = tmp_path / "first" / "out" / "mine.safetensors"
    again, _ = run(settings({"kind": "file", "model": str(path)}), tmp_path / "second")
    np.testing.assert_array_equal(first, again)


def test_one_hot_codes_are_the_tasks(tmp_path):
    tasks = (("liver", "liver_tumor"), ("spleen",))
    embeddings, metadata = run(settings({"kind": "one_hot"}, tasks=tasks), tmp_path)
    assert embeddings.tolist() == [[1, 0], [1, 0], [0, 1]]
    assert metadata["weights_sha256"] == ""


def test_a_roi_of_no_task_is_named(tmp_path):
    assert "spleen" in complaint(settings({"kind": "one_hot"}, tasks=(("liver", "liver_tumor"),)), tmp_path)


def test_the_reader_gives_rows_in_order_or_refuses(tmp_path):
    embeddings, _ = run(settings({"kind": "wordllama"}), tmp_path)
    path = tmp_path / "out" / "mine.safetensors"
    np.testing.assert_array_equal(read_embeddings(path, ROIS), embeddings)
    for rois in (ROIS[::-1], ROIS[:2]):
        with pytest.raises(UserError, match="holds the ROIs liver, liver_tumor, spleen"):
            read_embeddings(path, rois)


def biomedclip_at(folder, **more):
    return settings({"kind": "biomedclip", "model": str(folder), **more})


def test_a_pointer_in_place_of_the_weights_is_named(clip_folder, tmp_path):
    folder = tmp_path / "clip"
    shutil.copytree(clip_folder, folder)
    (folder / "open_clip_model.safetensors").write_text(POINTER)
    line = complaint(biomedclip_at(folder), tmp_path)
    assert "open_clip_model.safetensors" in line
    assert "pointer" in line


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared cases are not beside the checkout")
def test_biomedclips_real_folder_without_weights_is_named(tmp_path):
    line = complaint(biomedclip_at(SHARED / "biomedclip_tokenizer"), tmp_path)
    assert "open_clip_pytorch_model.bin: is a git-lfs pointer of 134 bytes" in line


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared cases are not beside the checkout")
def test_biomedclips_real_architecture_loads_offline(open_clip, no_network, tmp_path):
    """Its published config names a path of its authors' machine; the stage must not fall over it."""
    folder = tmp_path / "biomedclip"
    shutil.copytree(SHARED / "biomedclip_tokenizer", folder, copy_function=shutil.copyfile)
    # Fewer and narrower layers, the rest as published: the real one takes 784 MB.
    tower = json.loads((folder / "config.json").read_text())
    tower |= {"hidden_size": 24, "intermediate_size": 48, "num_attention_heads": 2, "num_hidden_layers": 2}
    (folder / "config.json").write_text(json.dumps(tower))
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["vision_cfg"]["timm_model_name"] = "vit_tiny_patch16_224"
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    (folder / "open_clip_pytorch_model.bin").unlink()
    tower_here = config["model_cfg"]["text_cfg"] | {"hf_model_name": str(folder), "hf_model_pretrained": False}
    network = open_clip.create_model(f"local-dir:{folder}", text_cfg=tower_here)
    torch.save(network.state_dict(), folder / "open_clip_pytorch_model.bin")
    embeddings, _ = run(biomedclip_at(folder), tmp_path)
    assert embeddings.shape == (3, 512)


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared cases are not beside the checkout")
def test_real_clip_vectors_from_a_file(tmp_path):
    path = SHARED / "mots11_clip" / "mots11_clip_vitb32.npy"
    rois = tuple(f"roi_{number}" for number in range(11))
    embeddings, _ = run(settings({"kind": "file", "model": str(path)}, rois=rois, texts=rois), tmp_path)
    assert embeddings.shape == (11, 512)


def test_another_checksum_is_named(clip_folder, tmp_path):
    line = complaint(biomedclip_at(clip_folder, sha256="0" * 64), tmp_path)
    assert "has SHA-256" in line
    assert "0" * 64 in line


def test_torn_weights_are_named(clip_folder, tmp_path):
    folder = tmp_path / "clip"
    shutil.copytree(clip_folder, folder)
    weights = folder / "open_clip_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    assert "cannot load" in complaint(biomedclip_at(folder), tmp_path)


@pytest.mark.parametrize("content", ["", "{", "{}", '{"model_cfg": {}}'])
def test_a_broken_config_is_named(clip_folder, tmp_path, content):
    folder = tmp_path / "clip"
    shutil.copytree(clip_folder, folder)
    (folder / "open_clip_config.json").write_text(content)
    assert "open_clip_config.json" in complaint(biomedclip_at(folder), tmp_path)


def test_an_empty_folder_is_named(tmp_path):
    assert "open_clip_config.json" in complaint(biomedclip_at(tmp_path / "nowhere"), tmp_path)


def test_without_network_the_remedy_is_the_target_that_fetches(no_network, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty"))
    line = complaint(settings({"kind": "biomedclip"}), tmp_path)
    assert "text.encoders.mine" in line
    assert "snakemake raw_data" in line
    assert "local folder" in line


@pytest.mark.parametrize(
    ("encoder", "words"),
    [
        ({"model": "ViT-B-777"}, ["ViT-B-777"]),
        ({"model": "ViT-B-32"}, ["pretrained", "openai"]),
        ({"model": "ViT-B-32", "pretrained": "nobody"}, ["nobody", "openai"]),
    ],
)
def test_unknown_open_clip_names_are_named(open_clip, encoder, words, tmp_path):
    line = complaint(settings({"kind": "open_clip", **encoder}), tmp_path)
    assert all(word in line for word in words)


def test_an_open_clip_that_cannot_be_imported_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    line = complaint(settings({"kind": "open_clip", "model": "ViT-B-32", "pretrained": "openai"}), tmp_path)
    assert "open_clip" in line
    assert "torchvision" in line


def test_vectors_that_do_not_fit_are_named(tmp_path):
    path = tmp_path / "vectors.npy"
    wanted = settings({"kind": "file", "model": str(path)})
    assert "missing" in complaint(wanted, tmp_path)
    path.write_text("no vectors")
    assert "vectors.npy" in complaint(wanted, tmp_path)
    np.save(path, np.array([{"pickled": 1}], dtype=object))
    assert "vectors.npy" in complaint(wanted, tmp_path)
    np.save(path, np.ones((2, 8)))
    assert "3 rows" in complaint(wanted, tmp_path)
    np.save(path, np.full((3, 8), np.nan))
    assert "not finite" in complaint(wanted, tmp_path)
    np.save(path, np.ones((3, 8)))
    assert "liver and liver_tumor" in complaint(wanted, tmp_path)


def test_a_missing_roi_of_a_safetensors_file_is_named(tmp_path):
    path = tmp_path / "vectors.safetensors"
    save_file({"v": np.eye(2, dtype=np.float32)}, path, metadata={"rois": '["liver", "spleen"]'})
    assert "liver_tumor" in complaint(settings({"kind": "file", "model": str(path)}), tmp_path)


def test_by_hand_with_no_weights_flag_value(tmp_path):
    """As the workflow calls it: `--weights` with nothing behind it."""
    path = tmp_path / "mine.safetensors"
    arguments = ["--settings", settings({"kind": "wordllama"}).model_dump_json(), "--weights"]
    with pytest.raises(SystemExit) as end:
        stage_command(
            text.run, EmbedSettings, text.Inputs, text.Outputs, arguments=[*arguments, "--embeddings", str(path)]
        )
    assert end.value.code == 0
    assert path.is_file()
