"""The outlines of a mask in a slice, as polygons that give exactly its pixels back.

An outline runs between pixels, along their edges, so that it encloses as much area as the pixels have and comes near no
pixel's centre. A hole is joined to the outline around it by a channel without width ("keyhole"), which DICOM prescribes
for CLOSED_PLANAR contours: a reader needs no rule for contours within each other.
"""

from __future__ import annotations

import numpy as np

_RIGHT, _DOWN, _LEFT, _UP = range(4)


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Polygons (N×2: column and row in pixels from the centre of the first, closed by themselves) of a mask (bool H W).

    There is one for each part that is connected by edges. Only corners are kept.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return []
    top, left = int(rows[0]), int(columns[0])
    framed = np.pad(mask[top : rows[-1] + 1, left : columns[-1] + 1], 1)
    loops = _Loops(framed)
    loops.join_holes()
    # Corners of pixels, counted from that of the frame, whose pixels begin one before the mask's.
    shift = np.array([top, left]) - 1.5
    return [(corners + shift)[:, ::-1] for corners in loops.polygons()]


class _Loops:
    """The edges between mask and background, linked to closed loops with the mask on their right-hand side.

    A node is a loop's visit to a corner of pixels, which is `corner[node]`; `following[node]` comes next.
    """

    def __init__(self, framed: np.ndarray) -> None:
        """`framed` (bool) is background along its whole border."""
        self._width = framed.shape[1] + 1
        self._step = (1, self._width, -1, -self._width)
        self.corner: list[int] = []
        self.following: list[int] = []
        self._first: list[int] = []
        self._node_at: dict[int, int] = {}
        ways = self._edges(framed)
        for start in list(ways):
            while ways[start]:
                self._trace(start, ways)

    def _edges(self, framed: np.ndarray) -> dict[int, list[int]]:
        """Corner → the directions in which edges leave it."""
        ways: dict[int, list[int]] = {}
        above, below = framed[:-1], framed[1:]
        before, behind = framed[:, :-1], framed[:, 1:]
        found = (
            (_RIGHT, np.argwhere(below & ~above), 1, 0),
            (_LEFT, np.argwhere(above & ~below), 1, 1),
            (_DOWN, np.argwhere(before & ~behind), 0, 1),
            (_UP, np.argwhere(behind & ~before), 1, 1),
        )
        for direction, pixels, down, right in found:
            for corner in (pixels @ (self._width, 1) + down * self._width + right).tolist():
                ways.setdefault(corner, []).append(direction)
        return ways

    def _trace(self, start: int, ways: dict[int, list[int]]) -> None:
        """Follow edges from `start` until they are back there, and take them out of `ways`."""
        first = len(self.corner)
        corner, direction = start, ways[start].pop()
        while True:
            self._node_at[corner] = len(self.corner)
            self.corner.append(corner)
            corner += self._step[direction]
            if corner == start and (direction + 1) % 4 not in ways[corner]:
                break
            # Where two pixels touch at a corner alone, turning right stays with the same pixel.
            options = ways[corner]
            direction = next(way % 4 for way in (direction + 1, direction, direction + 3) if way % 4 in options)
            options.remove(direction)
        self._first.append(first)
        self.following += [*range(first + 1, len(self.corner)), first]

    def join_holes(self) -> None:
        """Lead the loop around each hole into the one that lies to its left."""
        starts = [(first, self._top_left(first)) for first in self._first]
        # With the mask on the right-hand side, a loop leaves this corner to the right, and one around a hole down.
        holes = [(first, node) for first, node in starts if self.corner[self.following[node]] == self._below(node)]
        for _, node in holes:
            # All pixels at this corner belong to the mask, but for the hole's own. So edges that go left from here lie
            # within the mask until they meet another loop.
            corner = self.corner[node] - 1
            while corner not in self._node_at:
                corner -= 1
            self._splice(self._node_at[corner], node, last=self._nodes(node)[-1])
        joined = {first for first, _ in holes}
        self._first = [first for first in self._first if first not in joined]

    def polygons(self) -> list[np.ndarray]:
        """The corners (N×2: row, column) at which each loop turns."""
        found = []
        for first in self._first:
            corners = np.array(np.divmod([self.corner[node] for node in self._nodes(first)], self._width)).T
            arriving = np.sign(corners - np.roll(corners, 1, axis=0))
            found.append(corners[(arriving != np.roll(arriving, -1, axis=0)).any(axis=1)])
        return found

    def _top_left(self, first: int) -> int:
        """The node at the highest of a loop's leftmost corners."""
        return min(self._nodes(first), key=lambda node: (self.corner[node] % self._width, self.corner[node]))

    def _below(self, node: int) -> int:
        return self.corner[node] + self._width

    def _splice(self, other: int, node: int, last: int) -> None:
        """Go from `other` to `node`, around its loop to `last`, and back over copies of both."""
        node_again, other_again = len(self.corner), len(self.corner) + 1
        self.corner += [self.corner[node], self.corner[other]]
        self.following += [other_again, self.following[other]]
        self.following[other], self.following[last] = node, node_again

    def _nodes(self, first: int) -> list[int]:
        """The nodes of the loop that `first` is in."""
        nodes, node = [first], self.following[first]
        while node != first:
            nodes.append(node)
            node = self.following[node]
        return nodes
