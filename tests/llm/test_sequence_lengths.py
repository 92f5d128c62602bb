"""Cells that sequences share count once, whatever is copied, cut and lengthened; checked against cells as objects."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from palo_cpp.llm.sequence_lengths import SequenceLengths

N = 4
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(0, N - 1), st.integers(1, 5)),
        st.tuples(st.just("truncate"), st.integers(0, N - 1), st.integers(0, 12)),
        st.tuples(st.just("copy"), st.integers(0, N - 1), st.integers(0, N - 1)),
    ),
    max_size=40,
)


@given(STEPS)
def test_equals_counting_every_cell(steps):
    lengths, cells, n_made = SequenceLengths(N), [[] for _ in range(N)], 0
    for name, a, b in steps:
        getattr(lengths, name)(a, b)
        if name == "append":
            cells[a] += range(n_made, n_made + b)
            n_made += b
        elif name == "truncate":
            del cells[a][b:]
        else:
            cells[b] = list(cells[a])
        assert [lengths[i] for i in range(N)] == [len(each) for each in cells]
        assert lengths.n_used == len(set().union(*cells))


def test_a_prefix_stays_counted_when_its_source_is_cut():
    lengths = SequenceLengths(3)
    lengths.append(0, 400)
    lengths.copy(0, 1)
    lengths.truncate(0, 0)
    assert lengths.n_used == 400
    lengths.append(0, 10)
    assert (lengths[0], lengths[1], lengths.n_used) == (10, 400, 410)
