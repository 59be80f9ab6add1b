"""
Game of Life
============

How many neighbours live? A 3 x 3 kernel of ones with a hole in the middle counts them for all cells at once. Integers are exact, and
``padding_mode="circular"`` makes the world a torus.
"""

import matplotlib.pyplot as plt
import numpy as np

import fastconv

neighbours = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], np.int16)[np.newaxis, np.newaxis]


def following(cells: np.ndarray) -> np.ndarray:
    """Return the next generation: born with three neighbours, alive on with two or three."""
    count = fastconv.conv2d(cells[np.newaxis, np.newaxis], neighbours, padding=1, padding_mode="circular")[0, 0]
    return ((count == 3) | ((cells == 1) & (count == 2))).astype(np.int16)


# %%
# Gosper's gun sends out a glider every 30 generations.

GUN = """
........................O...........
......................O.O...........
............OO......OO............OO
...........O...O....OO............OO
OO........O.....O...OO..............
OO........O...O.OO....O.O...........
..........O.....O.......O...........
...........O...O....................
............OO......................
"""
rows = GUN.split()
world = np.zeros((40, 64), np.int16)
world[2 : 2 + len(rows), 2 : 2 + len(rows[0])] = [[letter == "O" for letter in row] for row in rows]

generations = [world]
for _ in range(90):
    generations.append(following(generations[-1]))

figure, axes = plt.subplots(2, 3, figsize=(11, 5), layout="constrained")
for one, generation in zip(axes.flat, (0, 15, 30, 45, 60, 90), strict=True):
    one.imshow(generations[generation], cmap="viridis", interpolation="nearest")
    one.set_title(f"generation {generation}")
    one.axis("off")
plt.show()

# %%
# The gun looks the same every 30 generations, and a glider is five cells:

gun = np.s_[2:11, 2:38]
print("the same gun after 30:", np.array_equal(generations[0][gun], generations[30][gun]))
print("living cells:", *(int(generations[n].sum()) for n in (0, 30, 60, 90)))
