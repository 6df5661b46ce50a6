"""Texts of errors: each ends as a sentence and says what to do, because users read it."""

import pytest

from bg_ingest import errors
from bg_ingest.errors import IngestError, KeyUnavailable, StaleRead, StoreError, first_error


def all_errors(error: type[IngestError] = IngestError) -> list[type[IngestError]]:
    ours = [each for each in error.__subclasses__() if each.__module__ == errors.__name__]
    return [error, *(found for each in ours for found in all_errors(each))]


ERRORS = sorted(all_errors(), key=lambda error: error.__name__)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: str(error.__name__))
def test_a_text_is_a_sentence_that_says_what_to_do(error: type[IngestError]) -> None:
    text = str(error.__new__(error))
    assert text.endswith(".")
    assert "\n" not in text
    assert ":" in text or "the text says what to do" in text


def test_the_tree_in_the_module_names_every_error() -> None:
    assert [error.__name__ for error in ERRORS if error.__name__ not in (errors.__doc__ or "")] == []


def test_a_text_of_its_own_replaces_the_docstring() -> None:
    assert str(StoreError("There is no table.")) == "There is no table."
    assert str(KeyUnavailable("Key 1 is lost", "restore it")) == "Key 1 is lost: restore it."


def test_the_first_error_of_nested_groups_is_found() -> None:
    error = StaleRead()
    assert first_error(error) is error
    assert first_error(BaseExceptionGroup("", [BaseExceptionGroup("", [error]), ValueError()])) is error
