"""A small depth dataset and its evaluation in one process of several."""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils import comm
from PIL import Image

from metaprompt_d2.evaluation import DepthEvaluator

SCALE = 1000


def write_depths(root: Path, depths: list[np.ndarray], scale: int = SCALE) -> list[dict]:
    """Write ground truth files of `depths` in meters below `root`; there are no image files."""
    items = []
    for index, depth in enumerate(depths):
        file = root / f"depth/{index:02d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.rint(depth * scale).astype(np.uint16)).save(file)
        items.append(
            {
                "file_name": str(root / f"rgb/scene_{index % 2}/{index:02d}.jpg"),
                "depth_file_name": str(file),
                "depth_scale": scale,
                "height": depth.shape[0],
                "width": depth.shape[1],
            }
        )
    return items


@contextmanager
def registered_depth(items: list[dict], **metadata) -> Iterator[str]:
    """Register items while the context lasts; yields their name."""
    name = f"test_depth_{uuid.uuid4().hex}"
    DatasetCatalog.register(name, lambda: items)
    MetadataCatalog.get(name).set(evaluator_type="depth", **({"max_depth": 10.0} | metadata))
    try:
        yield name
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def twice_as_far(item: dict) -> torch.Tensor:
    """A prediction with a ratio of 2 at every pixel of the first image, 3 at the second's, ..."""
    truth = np.asarray(Image.open(item["depth_file_name"]), np.float32) / item["depth_scale"]
    return torch.from_numpy(truth * (2 + int(Path(item["depth_file_name"]).stem)))


def score_share(items: list[dict], result_file: str) -> None:
    """Score every second item, filled up with the first ones; the main process writes metrics."""
    rank, size = comm.get_rank(), comm.get_world_size()
    count = -(-len(items) // size)
    filled = (items + items)[: count * size]
    with registered_depth(items) as name:
        evaluator = DepthEvaluator(name)
        evaluator.reset()
        for item in filled[rank::size]:
            evaluator.process([item], [{"depth": twice_as_far(item)}])
        results = evaluator.evaluate()
    if comm.is_main_process():
        Path(result_file).write_text(json.dumps(results["depth"]))
    else:
        assert results is None
    if size > 1:  # its threads must end before the process does, or it may abort
        torch.distributed.destroy_process_group()
