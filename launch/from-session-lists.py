#!/usr/bin/env python3
"""Session data in the form that SR-GNN and the models after it share (train.txt, test.txt, all_train_seq.txt: pickled Python
lists) as text files that `gru4rec ingest` reads.

usage: launch/from-session-lists.py TRAIN TEST OUT

TRAIN and TEST are each either a list of sessions, [[item, item, ...], ...] (all_train_seq.txt), or a pair of lists
([prefix, ...], [target, ...]) of all prefixes of each session, the longest first (train.txt, test.txt), which are put together
to sessions again. OUT/train.tsv and OUT/test.tsv have the columns SessionId, ItemId and Time. The lists hold no times: Time
keeps their order, session by session and event by event, so that the last sessions of the list are the most recent ones.
Nothing but lists, tuples, numbers and text is read from the files: a pickle that wants to run code is refused.
"""

import pathlib
import pickle
import sys

EVENTS_OF_A_SESSION = 100_000  # Time of event p of session s: s * EVENTS_OF_A_SESSION + p


class DataOnly(pickle.Unpickler):
    def find_class(self, module, name):
        raise pickle.UnpicklingError(f"it wants to load {module}.{name}, and session lists hold data only")


def fail(message):
    sys.exit(f"from-session-lists.py: {message}")


def read(path):
    try:
        with open(path, "rb") as file:
            content = DataOnly(file).load()
    except Exception as error:  # pickle promises no end of kinds for a damaged file
        fail(f"{path} cannot be read as a pickled list: {error}")
    if not isinstance(content, (list, tuple)):
        fail(f"{path} holds a {type(content).__name__}, not a list of sessions or a pair of lists of prefixes and targets")
    sessions = sessions_of(path, *content) if is_pair(content) else content
    for number, session in enumerate(sessions):
        if not isinstance(session, (list, tuple)) or not all(map(is_item, session)):
            fail(f"{path}: entry {number} is no list of items: {str(session)[:80]}")
    return sessions


def is_item(item):
    """Whether this is an id that a column of a text file can hold."""
    return isinstance(item, int) or isinstance(item, str) and item and not set(item) & set("\t\r\n")


def is_pair(content):
    """Whether these are ([prefix, ...], [target, ...]); a list of two sessions has items in both."""
    if len(content) != 2 or not all(isinstance(part, (list, tuple)) for part in content) or len(content[0]) != len(content[1]):
        return False
    return all(isinstance(prefix, (list, tuple)) for prefix in content[0])


def sessions_of(path, prefixes, targets):
    """The sessions whose prefixes these are: [a, b] -> c, [a] -> b come from [a, b, c]."""
    sessions, row = [], 0
    while row < len(prefixes):
        if not prefixes[row]:
            fail(f"{path}: row {row} has an empty prefix: every target wants an item before it")
        session = [*prefixes[row], targets[row]]
        for cut in range(len(session) - 1, 0, -1):
            if row == len(prefixes) or [*prefixes[row], targets[row]] != session[: cut + 1]:
                fail(f"{path}: row {row} is not the prefix of length {cut} of the session that began before it. "
                     "All prefixes of a session are wanted, one after the other, the longest first.")
            row += 1
        sessions.append(session)
    return sessions


def write(path, sessions):
    with open(path, "w") as file:
        file.write("SessionId\tItemId\tTime\n")
        for number, session in enumerate(sessions):
            if len(session) > EVENTS_OF_A_SESSION:
                fail(f"session {number} has {len(session)} events, and {EVENTS_OF_A_SESSION} is the most")
            file.writelines(f"{number}\t{item}\t{number * EVENTS_OF_A_SESSION + place}\n" for place, item in enumerate(session))
    print(f"{path}: {len(sessions)} sessions, {sum(map(len, sessions))} events")


def main():
    if sys.argv[1:] in (["-h"], ["--help"]):
        print(__doc__.strip())
        return
    if len(sys.argv) != 4:
        sys.exit(__doc__.strip())
    train, test = read(sys.argv[1]), read(sys.argv[2])
    out = pathlib.Path(sys.argv[3])
    try:
        out.mkdir(parents=True, exist_ok=True)
        write(out / "train.tsv", train)
        write(out / "test.tsv", test)
    except OSError as error:
        fail(f"cannot write: {error}")


if __name__ == "__main__":
    main()
