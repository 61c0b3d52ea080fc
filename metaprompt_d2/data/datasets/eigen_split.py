"""The split of KITTI's raw data by Eigen et al. (2014): training drives and test frames."""

# Training drives by date: the 33 of the categories city, residential and road that aren't tested.
_TRAIN = {
    "2011_09_26": "0001 0005 0011 0014 0015 0017 0018 0019 0022 0028 0032 0035 0039 0051 0057 0060 "
    "0061 0070 0079 0087 0091 0095 0104 0113",
    "2011_09_28": "0001",
    "2011_09_29": "0004 0026",
    "2011_09_30": "0020 0028 0033 0034",
    "2011_10_03": "0034 0042",
}

# The 697 test frames by date and drive: runs "first-last/step", and frames left out after "but".
_TEST = {
    "2011_09_26": {
        "0002": "0-75/3 but 66",
        "0009": "0-176/16 196-388/16",
        "0013": "0-140/5 but 15 25 55 75",
        "0020": "0-84/3 but 24 30 39 81",
        "0023": "18-468/18 but 234",
        "0027": "0-182/7 but 105 154",
        "0029": "0-196/14 268-408/14 but 282",
        "0036": "0-800/32 but 736",
        "0046": "0-120/5",
        "0048": "0-21/1",
        "0052": "0-52/2 but 24 34",
        "0056": "11-286/11 but 132",
        "0059": "0-238/14 274-372/14 but 168",
        "0064": "0-550/22 but 132",
        "0084": "49-374/13 but 166",
        "0086": "7-682/27 but 547",
        "0093": "0-256/16 305-417/16",
        "0096": "0-456/19",
        "0101": "80-930/34 but 250",
        "0106": "15-15/1 35-219/8",
        "0117": "0-650/26 but 520",
    },
    "2011_09_28": {"0002": "0-90/3 but 15 27 42 66 69 75"},
    "2011_09_29": {"0071": "0-612/36 735-951/36 1054-1054/1 but 843"},
    "2011_09_30": {
        "0016": "0-275/11 but 99",
        "0018": "0-2247/107 2419-2740/107 but 321",
        "0027": "0-656/41 753-1081/41 but 999",
    },
    "2011_10_03": {"0027": "0-543/181 734-4535/181 but 2182", "0047": "0-800/32 but 256"},
}


def _frames(text: str) -> frozenset[int]:
    runs, _, left_out = text.partition(" but ")
    found: set[int] = set()
    for run in runs.split():
        ends, step = run.split("/")
        first, last = ends.split("-")
        found.update(range(int(first), int(last) + 1, int(step)))
    return frozenset(found - {int(frame) for frame in left_out.split()})


TRAIN_DRIVES = tuple(
    f"{date}_drive_{number}_sync" for date, numbers in _TRAIN.items() for number in numbers.split()
)
TEST_FRAMES = {
    f"{date}_drive_{number}_sync": _frames(text)
    for date, drives in _TEST.items()
    for number, text in drives.items()
}
