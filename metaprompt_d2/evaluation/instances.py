"""AP of the instances of a model whose things aren't its first classes."""

import numpy as np
from detectron2.data import Metadata, MetadataCatalog
from detectron2.evaluation import COCOEvaluator
from detectron2.utils.file_io import PathManager
from torch import tensor

from ..data import load_dataset_dicts
from ..utils.errors import MissingFileError


class ThingsEvaluator(COCOEvaluator):
    """Detectron2's evaluator for datasets in which things and stuff share their classes.

    Detectron2 expects the things to be the classes from 0. Instances of other classes than things
    are left out, and classes of things are numbered in the order of their ids in the file.
    """

    def __init__(self, dataset_name: str, output_dir: str):
        """
        Args:
            dataset_name: Dataset with "json_file" in its metadata.
            output_dir: Folder for the predictions.

        Raises:
            MissingFileError: The file doesn't exist.
        """
        metadata = MetadataCatalog.get(dataset_name)
        if metadata.get("thing_dataset_id_to_contiguous_id", None) is None:
            load_dataset_dicts(dataset_name)  # Detectron2 reads them from the file then
        if not PathManager.isfile(metadata.json_file):
            raise MissingFileError(
                f"JSON file {metadata.json_file} does not exist; dataset {dataset_name!r} needs it "
                "for the AP of its instances"
            )
        super().__init__(dataset_name, tasks=("bbox", "segm"), output_dir=output_dir)
        ids = sorted(metadata.thing_dataset_id_to_contiguous_id.items())
        self.things = [index for _, index in ids]
        self._metadata = Metadata(
            name=dataset_name,
            json_file=metadata.json_file,
            thing_classes=[metadata.thing_classes[index] for index in self.things],
            thing_dataset_id_to_contiguous_id={key: n for n, (key, _) in enumerate(ids)},
        )

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        places = {index: number for number, index in enumerate(self.things)}
        for item, output in zip(inputs, outputs, strict=True):
            instances = output["instances"]
            found = [places.get(index, -1) for index in instances.pred_classes.tolist()]
            kept = instances[np.flatnonzero(np.array(found, int) >= 0).tolist()]
            kept.pred_classes = tensor([number for number in found if number >= 0])
            super().process([item], [{"instances": kept}])
