"""That the seams are where they are looked for; what is mended is shown by tests/e2e/test_{disconnects,http2}.py."""

from gproxy.server import repair


def test_the_seams_are_there_in_the_version_in_use() -> None:
    before = [getattr(place, name) for place, name, _, _ in repair._SEAMS]
    try:
        for place, name, own, _ in repair._SEAMS:
            setattr(place, name, own)
        repair.install()
        for place, name, _, mended in repair._SEAMS:
            assert getattr(place, name) is mended
    finally:
        for (place, name, _, _), found in zip(repair._SEAMS, before, strict=True):
            setattr(place, name, found)


def test_what_is_not_where_it_was_is_left_alone() -> None:
    place, name, _, _ = repair._SEAMS[0]
    before = getattr(place, name)
    try:
        setattr(place, name, other := object())
        repair.install()
        assert getattr(place, name) is other
    finally:
        setattr(place, name, before)
