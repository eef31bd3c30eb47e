"""Output of models in one thread and of scripts in another."""

import sys
from threading import Event, Thread

from earmark.standard_output import stdout_to_stderr


def test_stdout_to_stderr_redirects_its_own_thread_only(capsys):
    inside, written = Event(), Event()

    def model():
        with stdout_to_stderr():
            inside.set()
            written.wait(10)
            print("chatter")

    thread = Thread(target=model)
    thread.start()
    inside.wait(10)
    print("result")
    written.set()
    thread.join()
    assert tuple(capsys.readouterr()) == ("result\n", "chatter\n")


def test_stdout_to_stderr_restores_the_stream_after_nested_blocks_and_errors(capsys):
    before = sys.stdout
    with stdout_to_stderr():
        with stdout_to_stderr():
            print("inner")
        print("outer")
        try:
            with stdout_to_stderr():
                raise ValueError
        except ValueError:
            pass
        assert sys.stdout is not before
    assert sys.stdout is before
    print("after")
    assert tuple(capsys.readouterr()) == ("after\n", "inner\nouter\n")
