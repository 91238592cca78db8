"""Penn Treebank in Mikolov's preprocessing (2010), with its splits."""

from experiments.tasks.files import DataFile
from experiments.tasks.source import Source
from experiments.tasks.words import WordTask

FOLDER = "ptb"
FILES = (
    DataFile(
        ("ptb.train.txt.xz", "ptb.train.txt"),
        "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
    ),
    DataFile(
        ("ptb.valid.txt.xz", "ptb.valid.txt"),
        "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
    ),
    DataFile(
        ("ptb.test.txt.xz", "ptb.test.txt"),
        "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
    ),
)
SOURCE = Source(
    "Penn Treebank, Mikolov's preprocessing: 929,589 / 73,760 / 82,430 words",
    size="6 MB",
    terms="the text belongs to the Linguistic Data Consortium (Treebank-3, LDC99T42): licensed",
    place=FOLDER,
    manual=(
        "Nothing fetches it, because its text is licensed: put your own copy of "
        f"ptb.{{train,valid,test}}.txt, plain or as .xz, into DATA/{FOLDER}/."
    ),
)
HINT = (
    f"Set data_dir=FOLDER (with make: DATA=FOLDER) to a folder that holds {FOLDER}/ with "
    "ptb.train.txt, ptb.valid.txt and ptb.test.txt."
)
TASK = WordTask("ptb", FOLDER, FILES, HINT)
build, check = TASK.build, TASK.check
