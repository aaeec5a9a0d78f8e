"""Find the names under which files register their classes."""

import pytest

from kanoclip.python_source import registered


@pytest.mark.parametrize("decorator", ['@register("mine")', '@base.register("mine")'])
def test_names_are_found_however_the_decorator_is_imported(decorator: str) -> None:
    source = f"{decorator}\nclass Mine: ...\n\n\n@other('else')\nclass Other: ...\n"
    assert registered(source.encode(), "register") == ["mine"]


def test_a_name_that_is_not_literal_is_refused_with_its_place() -> None:
    with pytest.raises(SyntaxError, match=r'expected a literal name, as in @register\("name"\)') as caught:
        registered(b"NAME = 'mine'\n@register(NAME)\nclass Mine: ...\n", "register", "mine.py")
    assert (caught.value.filename, caught.value.lineno) == ("mine.py", 2)
