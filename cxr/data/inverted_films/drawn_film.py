"""A drawn chest film, by which a typical film is recognised as a film or as a negative."""

import numpy as np

from cxr.data.images.decoding.rejection import Pixels
from cxr.data.inverted_films.cells import SIDE, centres, correlate

# The mean of 16 x 16 cells of made-up films (cxr/data/phantoms), not of any person's. Above 0 is
# brighter than the mean.
_DRAWN_FILM_TEXT = """
-118 -119 -118 -117 -107  -63   17   49   50   15  -63 -106 -116 -118 -119 -118
-111 -102  -89  -61  -33   -2   31   56   57   31   -4  -34  -64  -91 -107 -114
 -46  -14    3   17   -9  -30    1   66   66    0  -31   -9   15    1  -23  -54
  24   39   31    6  -47  -57  -28   69   67  -30  -60  -46    7   31   37   22
  21   28   26  -14  -52  -54  -33   68   70  -27  -56  -53  -13   25   27   21
   2   22   23  -25  -46  -44  -20   76   83    0  -45  -47  -25   21   21    1
 -51   10   18  -32  -42  -36    3   87   86    4  -38  -43  -31   17    8  -51
 -94  -14   14  -35  -40  -32   18   91   90   28  -28  -43  -34   13  -16  -92
-102  -25   11  -36  -40  -34   26   92   93   58    2  -42  -37   10  -29 -102
-103  -27   11  -36  -41  -36   31   93   93   73   38  -35  -39    8  -31 -104
-103  -28    9  -37  -43  -38   25   93   93   75   55  -28  -42    7  -32 -103
-103  -28    5  -42  -36   -9   38   95   94   79   58  -28  -45    5  -32 -103
-101  -26    9  -22   13   54   81  110  105   90   65   -2  -29    8  -30 -102
 -98  -15   37   38   65   79   98  125  120   88   68   48   28   33  -21  -99
 -95   -4   61   72   78   81  100  130  126   88   69   69   69   57  -11  -97
 -92   -1   66   76   79   82  100  129  128   95   77   76   75   62   -9  -95
"""
_DRAWN_CELLS = np.fromstring(_DRAWN_FILM_TEXT, sep=" ")
DRAWN_FILM = _DRAWN_CELLS.reshape(1, SIDE, SIDE)


def correlate_with_drawn_film(cells: Pixels) -> float:
    """Correlate an image with the drawn film: above 0 for films, below 0 for negatives.

    The whole image and its centre alone are compared; the weaker correlation counts, and 0 if they
    disagree about the sign.

    Args:
        cells: float64 (1, 16, 16), see `cells.mean_cells`.
    """
    [of_whole] = correlate(cells, DRAWN_FILM)
    [of_centre] = correlate(
        centres(cells),
        centres(DRAWN_FILM),
    )
    if of_whole * of_centre <= 0:
        return 0.0
    weaker = min(of_whole, of_centre, key=abs)
    return float(weaker)
