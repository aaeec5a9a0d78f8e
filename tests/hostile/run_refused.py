"""Run commands while the system refuses to write. This is a separate process, which forks for each command.

Reads {"commands": [[...], ...], "largest": bytes or null} from standard input; writes [[exit code, output], ...].
With `largest`, no file can grow beyond that size, as on a full disk. Otherwise permissions apply, even to root.
"""

import ctypes
import json
import os
import resource
import sys
import traceback

DROP_BOUNDING, OVERRIDE, SEARCH = 24, 1, 2  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH (linux/prctl.h)


def heed_permissions() -> None:
    """Restart this program without the capabilities that let root ignore permissions.

    Raises:
        OSError: the system does not allow dropping them.
    """
    for capability in (OVERRIDE, SEARCH):
        if ctypes.CDLL(None, use_errno=True).prctl(DROP_BOUNDING, capability, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "cannot drop a capability")
    os.execv(sys.executable, [sys.executable, __file__, "again"])


def run(command: list[str], largest: int | None) -> tuple[int, str]:
    """Run a command in a fork and return its exit code and its output."""
    from kanoclip.cli import main

    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.dup2(writing, 1)
            os.dup2(writing, 2)
            if largest is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
            sys.argv = ["kanoclip", *command]
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
            if isinstance(stop.code, str):
                print(stop.code, file=sys.stderr)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code or 0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as said:
        text = said.read()
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), text


if __name__ == "__main__":
    if os.geteuid() == 0 and sys.argv[1:] != ["again"]:
        heed_permissions()
    given = json.load(sys.stdin)
    import kanoclip.stages.scoring
    import kanoclip.stages.training  # noqa: F401 - once, for all forks

    print(json.dumps([run(command, given["largest"]) for command in given["commands"]]))
