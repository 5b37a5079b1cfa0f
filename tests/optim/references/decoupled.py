from tests.optim.references import Reference  # noqa: F401
