"""Extract the 654 official test pairs of NYU Depth v2 from its labeled MATLAB file.

The pairs equal those of the usual extraction script (BTS): the image is black outside of the rows
and columns that the Kinect's projection covers, and depth is the raw depth in millimeters. A
stopped run resumes when the script is run again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import h5py
import numpy as np
import scipy.io
from label_conversion import dataset_root, run
from tqdm import tqdm

from metaprompt_d2.utils.errors import InputError, input_errors
from metaprompt_d2.utils.files import atomic_write, path_inside, write_png

TEST_FOLDER = "official_splits/test"
LIST = "test_list.txt"
KEYS = ("images", "rawDepths", "sceneTypes")
VALID_ROWS, VALID_COLUMNS = slice(7, 474), slice(7, 632)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line, or end the program with a message."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("mat", type=Path, help="the file nyu_depth_v2_labeled.mat")
    parser.add_argument("splits", type=Path, help="the file splits.mat, with the variable testNdxs")
    parser.add_argument(
        "--output",
        type=Path,
        default=dataset_root("nyu_depth_v2"),
        help="folder to write; default: %(default)s",
    )
    return parser.parse_args(arguments)


def open_labeled(file: Path) -> h5py.File:
    """Open the labeled dataset.

    Raises:
        InputError: The file is missing or damaged, isn't of MATLAB v7.3, or lacks a variable.
    """
    if not file.is_file():
        raise InputError(f"{file} does not exist")
    if not h5py.is_hdf5(file):
        with file.open("rb") as opened:
            start = opened.read(19).decode("latin-1")
        found = f"starts with {start!r}" if start else "is empty"
        raise InputError(f"{file} isn't a MATLAB v7.3 (HDF5) file, it {found}")
    try:
        data = h5py.File(file, "r")
    except OSError as error:
        raise InputError(f"{file} is damaged, perhaps not wholly downloaded: {error}") from error
    missing = [key for key in KEYS if key not in data]
    if missing:
        raise InputError(f"{file} has no variables {missing}, only {sorted(data)}")
    images, depths = data["images"].shape, data["rawDepths"].shape
    if len(images) != 4 or images[1] != 3 or depths != (images[0], *images[2:]):
        raise InputError(
            f"{file}: images are {images} and rawDepths {depths}, expected (N, 3, W, H) and "
            "(N, W, H)"
        )
    return data


def read_test_indices(file: Path, num_images: int) -> list[int]:
    """Read the zero-based indices of the test images.

    Raises:
        InputError: The file is missing or unreadable, lacks testNdxs, or names images beyond
            `num_images`.
    """
    if not file.is_file():
        raise InputError(f"{file} does not exist")
    try:
        splits = scipy.io.loadmat(file)
    except Exception as error:  # SciPy raises what its parsers happen to run into
        raise InputError(f"{file} cannot be read as a MATLAB file: {error}") from error
    if "testNdxs" not in splits:
        names = sorted(name for name in splits if not name.startswith("__"))
        raise InputError(f"{file} has no variable testNdxs, only {names}")
    indices = splits["testNdxs"].ravel().astype(int) - 1
    wrong = indices[(indices < 0) | (indices >= num_images)] + 1
    if len(wrong):
        raise InputError(f"{file}: testNdxs names images {wrong.tolist()} of {num_images}")
    return indices.tolist()


def scene_type(data: h5py.File, index: int) -> str:
    """Return the scene type, such as "bathroom"; MATLAB stores strings as character codes."""
    codes = data[data["sceneTypes"][0, index]]
    return "".join(chr(code) for code in codes[()].ravel())


def _write_jpeg(image: np.ndarray, file: Path) -> None:
    """Write a (H, W, 3) RGB image atomically."""
    _, content = cv2.imencode(".jpg", image[..., ::-1])
    atomic_write(file, lambda stream: stream.write(content.tobytes()))


def write_pair(data: h5py.File, index: int, image_file: Path, depth_file: Path) -> None:
    """Extract one image and its depth."""
    image = data["images"][index].transpose(2, 1, 0)  # (H, W, 3) RGB
    shown = np.zeros_like(image)
    shown[VALID_ROWS, VALID_COLUMNS] = image[VALID_ROWS, VALID_COLUMNS]
    depth = (data["rawDepths"][index].T * 1000.0).astype(np.uint16)  # meters to millimeters
    write_png(depth, depth_file)
    _write_jpeg(shown, image_file)


def extract(data: h5py.File, indices: list[int], output: Path) -> None:
    """Write the pairs that don't exist yet, then the list of all pairs."""
    folder = output / TEST_FOLDER
    lines = []
    for index in tqdm(indices, unit="pair"):
        scene = scene_type(data, index)
        image, depth = f"{scene}/rgb_{index:05d}.jpg", f"{scene}/sync_depth_{index:05d}.png"
        lines.append(f"/{image} /{depth}\n")
        if (folder / image).is_file() and (folder / depth).is_file():
            continue
        path_inside(folder, scene).mkdir(parents=True, exist_ok=True)
        write_pair(data, index, folder / image, folder / depth)
    atomic_write(output / LIST, lambda stream: stream.write("".join(sorted(lines)).encode()))


def prepare(options: argparse.Namespace) -> None:
    """Extract the pairs that the command line names."""
    output = options.output.expanduser().absolute()
    with open_labeled(options.mat.expanduser()) as data:
        indices = read_test_indices(options.splits.expanduser(), len(data["images"]))
        with input_errors(str(options.mat), OSError, ValueError):  # damage that HDF5 meets late
            extract(data, indices, output)
    print(f"{len(indices)} test pairs are in {output / TEST_FOLDER}, listed in {output / LIST}.")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    options = parse_arguments(arguments)
    run(lambda: prepare(options))


if __name__ == "__main__":
    main()
