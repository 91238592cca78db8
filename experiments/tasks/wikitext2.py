"""WikiText-2 (Merity et al., 2016, arXiv 1609.07843), official splits."""

from experiments.tasks.files import DataFile
from experiments.tasks.source import Remote, Source
from experiments.tasks.words import WordTask

FOLDER = "wikitext-2"
FILES = (
    DataFile(
        ("train.txt.xz", "train.txt", "wiki.train.tokens"),
        "9e9fa1ad55b1c2c95b08e37dd8e653f638fac2c6de904b79e813611eefbc985f",
    ),
    DataFile(
        ("valid.txt", "valid.txt.xz", "wiki.valid.tokens"),
        "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
    ),
    DataFile(
        ("test.txt", "test.txt.xz", "wiki.test.tokens"),
        "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
    ),
)
# The original host is gone; these are the same texts, and the checksums those of ``FILES``.
_MIRROR = (
    "https://raw.githubusercontent.com/pytorch/examples/77f55b912142e11fcfdf5b530231fb9c52f181e8"
    "/word_language_model/data/wikitext-2"
)
SOURCE = Source(
    "WikiText-2, word level: 2,088,628 / 217,646 / 245,569 words with <eos>",
    size="13 MB to fetch",
    terms="Creative Commons Attribution-ShareAlike (text of Wikipedia, by Salesforce Research)",
    place=FOLDER,
    files=tuple(
        Remote(f"{_MIRROR}/{name}.txt", f"{FOLDER}/{name}.txt", f"sha256:{file.sha256}")
        for name, file in zip(("train", "valid", "test"), FILES, strict=True)
    ),
)
HINT = (
    "Fetch it with 'make data TASK=wikitext2', or set data_dir=FOLDER (with make: DATA=FOLDER) to "
    f"a folder that holds {FOLDER}/ with the WikiText-2 files."
)
TASK = WordTask("wikitext2", FOLDER, FILES, HINT)
build, check = TASK.build, TASK.check
