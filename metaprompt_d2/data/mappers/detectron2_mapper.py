"""Detectron2's mapper, which reads label maps in one way only."""

from detectron2.data import DatasetMapper as Detectron2Mapper
from PIL import Image

from ...utils.errors import InputError
from ...utils.optional import optional_packages
from ..image_files import is_read_as_stored, opened


class DatasetMapper(Detectron2Mapper):
    """Detectron2's mapper, which refuses label maps that it would misread.

    It converts them to brightness: of a palette it takes the colors instead of the indices, and
    gray values of less than 8 bits become other ids.
    """

    def __call__(self, dataset_dict: dict) -> dict:
        """
        Raises:
            InputError: The label map isn't gray with 8 bits, or shapely is missing.
        """
        file_name = dataset_dict.get("sem_seg_file_name")
        if file_name is not None and self.is_train:
            with opened("label", file_name) as file:
                image = Image.open(file)
                fits = image.mode == "L" and is_read_as_stored(image)
            if not fits:
                raise InputError(
                    f"label file {file_name} isn't gray with 8 bits (mode {image.mode}), and "
                    "Detectron2's DatasetMapper would read other ids: save it as gray with 8 bits"
                )
        with optional_packages("cropping masks that are polygons (INPUT.CROP)"):
            return super().__call__(dataset_dict)
