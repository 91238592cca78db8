"""How text becomes tokens; one module a choice of ``conf/tokenization/``."""
