"""Every format is read as RGB frames with the values that were written, or refused in one line."""

import gzip
import io
import sys

import nibabel
import numpy as np
import pillow_heif
import pydicom
import pytest
import tifffile
import torch
from layout_writers import save_image
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.pixels import apply_modality_lut, apply_windowing

from kanoclip.datasets.decoding import is_image_name, read_image, to_rgb
from kanoclip.datasets.images import image_size, load_image, load_square
from kanoclip.datasets.safe_open import LIMIT_VARIABLE
from kanoclip.types import InputError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 4096, (6, 9), dtype=np.uint16)
RGB = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)


def scaled(values):
    """Scale 16-bit and float values so that their percentiles 0.1 and 99.9 are 0 and 255."""
    low, high = np.percentile(values, 0.1), np.percentile(values, 99.9)
    return np.round(255 * np.clip((values.astype(float) - low) / (high - low), 0, 1)).astype(np.uint8)


def frames(path, **options):
    return [np.asarray(frame.image) for frame in read_image(path, **options)]


def one(path):
    (found,) = read_image(path)
    assert found.name_suffix == "" and found.image.mode == "RGB"
    return np.asarray(found.image)


def refused(path, message):
    with pytest.raises(InputError, match=message) as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def write_dicom(path, values=GREY, **tags):
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    colour = values.ndim == 3 and values.shape[-1] == 3
    data.Rows, data.Columns = values.shape[:2] if colour or values.ndim == 2 else values.shape[1:3]
    if values.ndim == 3 and not colour:
        data.NumberOfFrames = len(values)
    data.SamplesPerPixel, data.PhotometricInterpretation = (3, "RGB") if colour else (1, "MONOCHROME2")
    if colour:
        data.PlanarConfiguration = 0
    bits = 8 * values.dtype.itemsize
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = bits, bits, bits - 1, 0
    data.PixelData = values.tobytes()
    for name, value in tags.items():
        setattr(data, name, value)
    data.save_as(path, enforce_file_format=True)
    return data


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "gif", "webp"])
@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA"])
def test_8_bit_images_equal_those_of_pillow(tmp_path, suffix, mode):
    path = tmp_path / f"a b'ü\n.{suffix}"
    Image.fromarray(RGB).convert("RGB" if suffix == "jpg" and mode in ("P", "RGBA") else mode).save(path)
    expected = np.asarray(Image.open(path).convert("RGB"))
    np.testing.assert_array_equal(one(path), expected)
    np.testing.assert_array_equal(np.asarray(load_image(path)), expected)
    squashed = Image.open(path).convert("RGB").resize((4, 4), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(load_square(path, 4), np.asarray(squashed))


@pytest.mark.parametrize(("orientation", "quarters"), [(3, 2), (6, 3), (8, 1)])
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_exif_turns_an_image_upright(tmp_path, suffix, orientation, quarters):
    exif, path = Image.Exif(), tmp_path / f"turned.{suffix}"
    exif[0x0112] = orientation
    Image.fromarray(RGB).save(path, exif=exif)
    stored = RGB if suffix == "tif" else np.asarray(Image.open(path).convert("RGB"))  # Pillow turns a TIFF by itself
    np.testing.assert_array_equal(one(path), np.rot90(stored, quarters))
    assert image_size(path) == load_image(path).size == np.rot90(stored, quarters).shape[1::-1]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits_are_scaled_by_percentiles(tmp_path, suffix):
    path = tmp_path / f"deep.{suffix}"
    Image.fromarray(GREY).save(path)
    for found in (one(path), np.asarray(load_image(path))):
        np.testing.assert_array_equal(found, np.repeat(scaled(GREY)[..., None], 3, 2))


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32", "float64"])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
def test_colour_tiffs_with_more_than_8_bits_are_scaled(tmp_path, dtype, compression):
    values = (RNG.random((6, 9, 3)) * 3000).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", compression=compression)
    np.testing.assert_array_equal(one(tmp_path / "a.tif"), scaled(values))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_pages_of_a_tiff_are_frames_with_a_common_scale(tmp_path, dtype):
    values = (RNG.random((3, 6, 9)) * [[[50]], [[150]], [[250]]]).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack")
    found = read_image(tmp_path / "a.tif")
    assert [frame.name_suffix for frame in found] == ["#1", "#2", "#3"]
    expected = values if dtype == "uint8" else scaled(values)
    np.testing.assert_array_equal([np.asarray(frame.image)[..., 0] for frame in found], expected)
    with pytest.raises(InputError, match="expected one image in a file of a dataset, found 3"):
        load_image(tmp_path / "a.tif")


def test_smaller_copies_in_a_tiff_are_not_frames(tmp_path):
    for dtype in (np.uint8, np.uint16):
        with tifffile.TiffWriter(tmp_path / "pyramid.tif") as file:
            file.write((RGB * 1).astype(dtype), photometric="rgb")
            file.write(RGB[::2, ::2].astype(dtype), photometric="rgb", subfiletype=1)
        assert one(tmp_path / "pyramid.tif").shape == (6, 9, 3)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("slope", [1, 2.5])
def test_dicom_values_are_scaled_by_the_window(tmp_path, function, slope):
    tags = {"WindowCenter": 1500, "WindowWidth": 2000, "VOILUTFunction": function}
    write_dicom(tmp_path / "a.dcm", RescaleSlope=slope, RescaleIntercept=-100, **tags)
    data = pydicom.dcmread(tmp_path / "a.dcm")
    windowed = apply_windowing(apply_modality_lut(data.pixel_array, data), data)
    lowest, highest = -100, 65535 * slope - 100  # the range of pydicom's output
    expected = 255 * (windowed - lowest) / (highest - lowest)
    assert np.abs(one(tmp_path / "a.dcm")[..., 0] - expected).max() <= 0.5 + 1e-6


def test_dicom_without_a_window_with_frames_with_colours_and_with_inverted_greys(tmp_path):
    write_dicom(tmp_path / "plain.dcm")
    np.testing.assert_array_equal(one(tmp_path / "plain.dcm")[..., 0], scaled(GREY))
    write_dicom(tmp_path / "inverted.dcm", PhotometricInterpretation="MONOCHROME1")
    assert np.abs(one(tmp_path / "inverted.dcm")[..., 0] + scaled(GREY).astype(int) - 255).max() <= 1
    write_dicom(tmp_path / "colour.dcm", RGB)
    np.testing.assert_array_equal(one(tmp_path / "colour.dcm"), RGB)
    several = RNG.integers(0, 4096, (4, 6, 9), dtype=np.uint16)
    write_dicom(tmp_path / "frames.dcm", several)
    np.testing.assert_array_equal([frame[..., 0] for frame in frames(tmp_path / "frames.dcm")], scaled(several))


@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
def test_slices_of_a_volume_are_frames(tmp_path, suffix):
    volume = (RNG.random((5, 6, 7)) * 900 - 300).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / f"a.{suffix}")
    for axis in range(3):
        found = np.stack(frames(tmp_path / f"a.{suffix}", axis=axis))[..., 0]
        expected = np.stack([np.rot90(np.take(scaled(volume), at, axis)) for at in range(volume.shape[axis])])
        np.testing.assert_array_equal(found, expected)


def test_orientation_of_a_volume_does_not_depend_on_its_storage_order(tmp_path):
    volume = RNG.integers(0, 900, (5, 6, 7)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / "ras.nii")
    nibabel.save(nibabel.Nifti1Image(volume[::-1], np.diag([-1, 1, 1, 1])), tmp_path / "las.nii")
    np.testing.assert_array_equal(frames(tmp_path / "ras.nii"), frames(tmp_path / "las.nii"))


def test_heic_is_read(tmp_path):
    rows, columns = np.mgrid[:48, :64]
    smooth = np.stack([5 * rows, 4 * columns, 2 * rows + 2 * columns], axis=2).astype(np.uint8)
    pillow_heif.from_pillow(Image.fromarray(smooth)).save(tmp_path / "a.heic", quality=95)
    found = one(tmp_path / "a.heic")
    assert found.shape == (48, 64, 3) and np.abs(found.astype(int) - smooth).mean() < 3


@pytest.mark.parametrize(
    ("name", "module"), [("a.dcm", "pydicom"), ("a.nii", "nibabel"), ("a.heic", "pillow_heif"), ("a.tif", "tifffile")]
)
def test_the_error_names_a_missing_library(tmp_path, monkeypatch, name, module):
    tifffile.imwrite(tmp_path / name, RGB.astype(np.float32), photometric="rgb")
    monkeypatch.setitem(sys.modules, module, None)
    refused(tmp_path / name, rf'{name}: this format needs .* run: pip install "kanoclip\[formats\]"')


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.tif"])
def test_postscript_is_never_executed(tmp_path, monkeypatch, name):
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("Ghostscript was started"))
    Image.fromarray(RGB).save(tmp_path / "x.eps")
    (tmp_path / "x.eps").rename(tmp_path / name)
    refused(tmp_path / name, "not a whole image .its bytes are none of PNG")


@pytest.mark.parametrize("suffix", ["png", "tif", "gif", "webp", "dcm", "nii", "nii.gz", "heic", "deep.tif"])
def test_more_pixels_than_the_limit_are_refused_before_they_are_decoded(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"large.{suffix}"
    if suffix == "dcm":
        write_dicom(path, np.zeros((32, 64), np.uint16))
    elif suffix.startswith("nii"):
        nibabel.save(nibabel.Nifti1Image(np.zeros((32, 32, 2), np.int16), np.eye(4)), path)
    elif suffix == "heic":
        pillow_heif.from_pillow(Image.new("RGB", (64, 32))).save(path)
    elif suffix == "deep.tif":
        tifffile.imwrite(path, np.zeros((32, 64), np.float32))
    else:
        Image.new("RGB", (64, 32)).save(path)
    assert read_image(path)
    monkeypatch.setenv(LIMIT_VARIABLE, "2047")
    refused(path, f"expected at most 2,047 pixels, found .*set {LIMIT_VARIABLE} higher")
    monkeypatch.setenv(LIMIT_VARIABLE, "2048")
    assert read_image(path)


def test_a_limit_above_that_of_pillow_is_used(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    save_image(tmp_path / "a.png", (30, 30))
    assert one(tmp_path / "a.png").shape == (30, 30, 3)


@pytest.mark.parametrize("text", ["0", "-3", "many", "1e9"])
def test_a_wrong_limit_is_refused(tmp_path, monkeypatch, text):
    save_image(tmp_path / "a.png")
    monkeypatch.setenv(LIMIT_VARIABLE, text)
    refused(tmp_path / "a.png", f"{LIMIT_VARIABLE}: expected a whole number of pixels above 0, found '{text}'")


def test_a_gzip_bomb_is_not_unpacked_completely(tmp_path, monkeypatch):
    monkeypatch.setenv(LIMIT_VARIABLE, "1000")
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="w") as file:
        for _ in range(64):
            file.write(bytes(2**20))
    (tmp_path / "bomb.nii.gz").write_bytes(buffer.getvalue())
    refused(tmp_path / "bomb.nii.gz", "bomb.nii.gz: ")


@pytest.mark.parametrize("suffix", ["dcm", "nii", "nii.gz", "heic", "tif", "webp", "gif"])
def test_damaged_files_are_refused_in_one_line(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    for content in (b"", b"no image\n" * 40, bytes(600)):
        path.write_bytes(content)
        refused(path, f"a.{suffix}: ")


def test_truncated_files_with_more_than_8_bits_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", RNG.random((40, 30, 3)), photometric="rgb")
    write_dicom(tmp_path / "a.dcm", RNG.integers(0, 4096, (40, 30), dtype=np.uint16))
    nibabel.save(nibabel.Nifti1Image(RNG.random((9, 8, 7)), np.eye(4)), tmp_path / "a.nii")
    for path in (tmp_path / "a.tif", tmp_path / "a.dcm", tmp_path / "a.nii"):
        content = path.read_bytes()
        for share in (0.1, 0.5, 0.9, 0.99):
            path.write_bytes(content[: int(share * len(content))])
            refused(path, f"{path.name}: not a whole image")


def test_values_that_are_not_finite_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.array([[0.5, np.nan]]))
    refused(tmp_path / "a.tif", "a.tif: expected finite values, found NaN")


def test_names_of_images_are_recognised():
    assert all(is_image_name(name) for name in ("a.PNG", "a.webp", "b/ä ö.nii.gz", "x.dcm", "x.heic", "x.gif"))
    assert not any(is_image_name(name) for name in ("a.eps", "png", "a.gz", "a.png.txt"))


@pytest.mark.parametrize("shape", [(6, 9), (6, 9, 1), (6, 9, 3), (6, 9, 4)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "bool"])
def test_arrays_and_tensors_are_read(shape, dtype):
    unit = RNG.random(shape)
    values = {"float32": unit, "bool": unit > 0.5}.get(dtype, unit * 255).astype(dtype)
    colour = (values[..., :3] if shape[-1] > 1 else values.reshape(6, 9)) if len(shape) == 3 else values
    expected = {"uint8": lambda v: v, "uint16": scaled}.get(dtype, lambda v: np.round(255 * v.astype(np.float32)))
    expected = np.broadcast_to(expected(colour).reshape(6, 9, -1), (6, 9, 3)).astype(np.uint8)
    np.testing.assert_array_equal(np.asarray(to_rgb(values)), expected)
    tensor = torch.from_numpy(values)
    np.testing.assert_array_equal(np.asarray(to_rgb(tensor)), expected)
    if len(shape) == 3:
        np.testing.assert_array_equal(np.asarray(to_rgb(tensor.permute(2, 0, 1))), expected)


def test_limits_scale_an_array():
    values = np.array([[-10.0, 0, 50], [100, 110, 25]])
    found = np.asarray(to_rgb(values, limits=(0, 100)))[..., 0]
    assert found.tolist() == [[0, 0, 128], [255, 255, 64]]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 3, 5)), "expected the shape"),
        (np.zeros((0, 3)), "expected the shape"),
        (np.array([[0.5, 7]]), "found 0.5 to 7; give limits"),
        (np.array([[0.5, np.nan]]), "found NaN"),
        (np.array([["a"]]), "expected integers, floats or bool"),
    ],
)
def test_other_arrays_are_refused(array, message):
    with pytest.raises(InputError, match=message):
        to_rgb(array)
