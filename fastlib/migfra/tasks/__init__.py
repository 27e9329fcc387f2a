"""The modules through which a task passes: receive, decode, dispatch, execute, answer, publish."""
