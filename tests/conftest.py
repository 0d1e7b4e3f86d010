import gc
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from affectus.corpus import Card, Corpus, Ragged, build_corpus
from affectus.labels import emotion_class_scheme, emotions_scheme, sentiment_scheme
from affectus.vocabulary import SIX_EMOTIONS

# read when torch is imported: workers with two threads each would wait for each other
os.environ.setdefault("OMP_NUM_THREADS", "1")
settings.register_profile("suite", max_examples=40)
settings.load_profile("suite")


def pytest_configure() -> None:
    """Collect no garbage while tests are collected: a third of that time would go into finding none."""
    gc.disable()


def pytest_collection_finish() -> None:
    gc.enable()
    gc.freeze()


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder of real data sets; tests on real data are skipped where there is none."""
    default = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("AFFECTUS_DATA", default))
    if not folder.is_dir():
        pytest.skip("no real data here; set AFFECTUS_DATA to a folder that holds it")
    return folder


def _toy_corpus(
    videos: int = 24, seed: int = 0, splits: tuple[str, ...] = ("train", "train", "valid", "test")
) -> Corpus:
    """Utterances whose text vector tells the sentiment and whose audio vector tells the emotions."""
    rng = np.random.default_rng(seed)
    records, text, audio = [], [], []
    for video in range(videos):
        for position in range(int(rng.integers(2, 6))):
            sentiment, strength = rng.uniform(-3, 3), rng.uniform(-2, 3, 6).clip(0)
            records.append(
                {
                    "id": f"v{video}_{position}",
                    "video": f"v{video}",
                    "split": splits[video % len(splits)],
                    "sentiment": None if rng.random() < 0.05 else sentiment,
                    **dict(zip(SIX_EMOTIONS, strength, strict=True)),
                    "emotion_class": ["anger", "none"][int(strength[0] == 0)],
                }
            )
            text.append(np.concatenate([[sentiment], rng.normal(size=4)]))
            audio.append(np.concatenate([strength, rng.normal(size=2)]) if rng.random() > 0.1 else None)
    card = Card(
        name="toy",
        generated=True,
        schemes=[sentiment_scheme(), emotions_scheme(), emotion_class_scheme(("anger", "none"))],
    )
    features = {
        "text": Ragged.from_rows(np.array(text)),
        "audio": Ragged.from_sequences([None if a is None else a[None] for a in audio], 8),
    }
    return build_corpus(records, features, card)


@pytest.fixture(scope="session")
def make_corpus() -> Callable[..., Corpus]:
    return _toy_corpus


@pytest.fixture
def corpus() -> Corpus:
    return _toy_corpus()


@pytest.fixture(scope="module")
def module_corpus() -> Corpus:
    return _toy_corpus(videos=60)


WORDS = ("good", "fine", "great", "bad", "sad", "awful", "film", "the", "was", "it", "un", "##like", "##ly", "very")


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small BERT with random weights, three layers and a few words."""
    transformers = pytest.importorskip("transformers", reason="needs the extra affectus[text]")
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    folder = tmp_path_factory.mktemp("tiny") / "tiny-bert"
    vocabulary = {word: i for i, word in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=32,
    ).save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=16,
            num_hidden_layers=3,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=32,
            initializer_range=0.1,  # else all tokens look alike
        )
        transformers.BertModel(config).save_pretrained(folder)
    return folder


def _spoken_corpus(
    videos: int = 24, seed: int = 0, splits: tuple[str, ...] = ("train", "train", "valid", "test")
) -> Corpus:
    """Utterances whose words tell the sentiment, beside audio of one step per word that tells nothing."""
    rng = np.random.default_rng(seed)
    value = {"good": 1.0, "fine": 0.5, "great": 1.5, "bad": -1.0, "sad": -0.5, "awful": -1.5}
    records, audio = [], []
    for video in range(videos):
        for position in range(int(rng.integers(2, 6))):
            words = rng.choice([*value, "film", "the", "was", "unlikely", "very"], int(rng.integers(1, 9))).tolist()
            spoken = rng.random() > 0.1
            records.append(
                {
                    "id": f"v{video}_{position}",
                    "video": f"v{video}",
                    "split": splits[video % len(splits)],
                    "text": " ".join(words) if spoken else None,
                    "words": words if spoken else [],
                    "sentiment": float(2 * np.mean([value.get(word, 0.0) for word in words])) if spoken else 0.0,
                }
            )
            heard = rng.normal(size=(len(words), 5))
            audio.append(heard if not spoken or rng.random() > 0.1 else None)
    card = Card(name="spoken", generated=True, schemes=[sentiment_scheme()])
    return build_corpus(records, {"audio": Ragged.from_sequences(audio, 5)}, card)


@pytest.fixture(scope="session")
def make_spoken() -> Callable[..., Corpus]:
    return _spoken_corpus


@pytest.fixture
def spoken() -> Corpus:
    return _spoken_corpus()
