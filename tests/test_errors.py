"""What a user caused is a line on stderr and an exit code; what nobody expected stays an exception."""

import pytest

from sentemb.errors import InputError, exit_codes


@pytest.mark.parametrize(
    "error, code, line",
    [
        (InputError("there is no such file"), 2, "error: there is no such file\n"),
        (KeyboardInterrupt(), 130, "interrupted; run it again\n"),
    ],
)
def test_what_a_user_caused_is_a_line_and_an_exit_code(error, code, line, capsys):
    with pytest.raises(SystemExit) as ended, exit_codes("interrupted; run it again"):
        raise error
    printed = capsys.readouterr()
    assert ended.value.code == code and printed.err == line and not printed.out


def test_other_errors_and_exits_pass():
    with pytest.raises(ZeroDivisionError), exit_codes():
        raise ZeroDivisionError
    with pytest.raises(SystemExit) as ended, exit_codes():
        raise SystemExit(1)
    assert ended.value.code == 1
