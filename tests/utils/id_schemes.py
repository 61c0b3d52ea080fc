"""COCO's files as annotation tools write them: the same people under all kinds of ids."""

import copy
from collections.abc import Callable
from random import Random
from typing import Any

_Ids = Callable[[int, Random], Any]  # ids of things numbered from 0

IMAGE_IDS: dict[str, _Ids] = {
    "from 0": lambda number, _: number,
    "from 1": lambda number, _: number + 1,
    "strings": lambda number, _: f"frame {9 - number}.jpg",
    "strings of numbers": lambda number, _: str(number),
    "both": lambda number, _: f"{number}" if number % 2 else 100 + number,
    "beyond 64 bits": lambda number, _: 2**70 - number,
    "negative": lambda number, _: -number,
}
ANNOTATION_IDS: dict[str, _Ids] = {
    "from 0": lambda number, _: number,
    "all the same": lambda number, _: 0,
    "repeated": lambda number, random: random.randrange(2),
    "strings": lambda number, _: f"a{number}",
    "strings and integers": lambda number, _: number if number % 2 else str(number),
    "null": lambda number, _: None,
    "missing": lambda number, _: ...,
}
PERSON_IDS = (0, 1, 3, "1", "person", -1)
OTHER_IDS = (7, "dog", 10**6)

# Fields that tools leave out, or write in another way.
_WAYS: dict[str, tuple] = {
    "iscrowd": (0, False, None, 0.0, ...),
    "area": (None, ...),
    "num_keypoints": (17, 17.0, None, ...),
    "segmentation": (None, [], {"size": [80, 100], "counts": [8000]}, ...),
}


def rename(content: dict, random: Random) -> tuple[dict, dict[Any, Any], Any]:
    """Give the images, annotations and categories of a COCO file other ids and optional fields.

    A dog that lies over the first person joins the annotations.

    Returns:
        The new content, the new id of each image by the old one, and the person's id.
    """
    content = copy.deepcopy(content)
    make_image, make_annotation = (
        random.choice(list(kinds.values())) for kinds in (IMAGE_IDS, ANNOTATION_IDS)
    )
    images = {image["id"]: make_image(n, random) for n, image in enumerate(content["images"])}
    person, other = random.choice(PERSON_IDS), random.choice(OTHER_IDS)
    for image in content["images"]:
        image["id"] = images[image["id"]]
    dog = copy.deepcopy(content["annotations"][0]) | {"category_id": other, "dog": True}
    content["annotations"].insert(random.randrange(3), dog)
    for number, item in enumerate(content["annotations"]):
        changes = {key: random.choice(ways) for key, ways in _WAYS.items()}
        changes["id"] = make_annotation(number, random)
        changes["category_id"] = other if item.pop("dog", False) else person
        changes["image_id"] = images[item["image_id"]]
        for key, value in changes.items():
            item[key] = value
            if value is ...:
                del item[key]
    content["categories"] = [{"id": other, "name": "dog"}, {"id": person, "name": "person"}]
    random.shuffle(content["images"])
    return content, images, person
