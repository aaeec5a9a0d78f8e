"""Write tiny datasets in the folders of each official archive, with the expected content of their index.

The expectation is stated beside each file, never derived by reading folders, so it is independent of the readers.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (20, 14)  # (W, H), not square, so that swapped axes are detected


@dataclass
class Written:
    """Expected (class folder, label, defect, split, mask or "") by path of the image, relative to the root."""

    root: Path
    rows: dict[tuple[str, str], tuple[int, str, str, str]] = field(default_factory=dict)

    def image(
        self,
        path: str,
        folder: str,
        defect: str = "good",
        mask: str = "",
        split: str = "test",
        expected: bool = True,
        size: tuple[int, int] = SIZE,
    ) -> None:
        """Write an image and its mask; `expected` says whether the index must hold it."""
        save_image(self.root / path, size)
        if mask:
            save_mask(self.root / mask, size)
        if expected:
            self.rows[folder, path] = (int(defect != "good"), defect, split, mask)

    def text(self, path: str, content: str) -> None:
        """Write a text file."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(content)


def save_image(path: Path, size: tuple[int, int] = SIZE) -> None:
    """Save an image of random colours, which depend only on its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(list(str(path.name).encode()))
    Image.fromarray(generator.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(path)


def save_mask(path: Path, size: tuple[int, int] = SIZE, value: int = 255) -> None:
    """Save a mask whose left half is anomalous."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros((size[1], size[0]), np.uint8)
    mask[:, : size[0] // 2] = value
    Image.fromarray(mask).save(path)


def mvtec_ad(out: Written) -> None:
    """Write classes at the top; the names of images start again in each defect."""
    classes = (
        "bottle cable capsule carpet grid hazelnut leather metal_nut pill screw tile toothbrush transistor wood zipper"
    )
    _mvtec(out, "", classes.split(), ["broken_large", "contamination"])
    out.text("license.txt", "CC BY-NC-SA 4.0")


def mpdd(out: Written) -> None:
    """Write classes inside one folder."""
    classes = "bracket_black bracket_brown bracket_white connector metal_plate tubes"
    _mvtec(out, "MPDD/", classes.split(), ["hole"])


def _mvtec(out: Written, top: str, classes: list[str], defects: list[str]) -> None:
    for name in classes:
        out.image(f"{top}{name}/train/good/000.png", name, split="train")
        out.image(f"{top}{name}/test/good/000.png", name)
        for defect in defects:
            for number in ("000", "001"):
                mask = f"{top}{name}/ground_truth/{defect}/{number}_mask.png"
                out.image(f"{top}{name}/test/{defect}/{number}.png", name, defect, mask)


def visa(out: Written) -> None:
    """Write a table of the split, masks that number the kinds of defects from 1, and a hidden file of macOS."""
    classes = "candle capsules cashew chewinggum fryum macaroni1 macaroni2 pcb1 pcb2 pcb3 pcb4 pipe_fryum"
    table = ["object,split,label,image,mask"]
    for name in classes.split():
        data = f"{name}/Data"
        out.image(f"{data}/Images/Normal/0000.JPG", name, split="train")
        out.image(f"{data}/Images/Normal/0001.JPG", name)
        out.image(f"{data}/Images/Anomaly/000.JPG", name, "anomaly", f"{data}/Masks/Anomaly/000.png")
        save_mask(out.root / f"{data}/Masks/Anomaly/000.png", value=3)
        table += [
            f"{name},train,normal,{data}/Images/Normal/0000.JPG,",
            f"{name},test,normal,{data}/Images/Normal/0001.JPG,",
            f"{name},test,anomaly,{data}/Images/Anomaly/000.JPG,{data}/Masks/Anomaly/000.png",
        ]
    out.text("split_csv/1cls.csv", "\n".join(table) + "\n")
    out.text("split_csv/2cls_fewshot.csv", "object,split,label,image,mask\n")


def btad(out: Written) -> None:
    """Mix bmp and png; one image with a mask has an image without a mask before it in alphabetical order."""
    top = "BTech_Dataset_transformed"
    for name, image, mask in (("01", "bmp", "png"), ("02", "png", "png"), ("03", "bmp", "bmp")):
        out.image(f"{top}/{name}/train/ok/0000.{image}", name, split="train")
        out.image(f"{top}/{name}/test/ok/0000.{image}", name)
        for number in ("0003", "0001"):
            truth = f"{top}/{name}/ground_truth/ko/{number}.{mask}"
            out.image(f"{top}/{name}/test/ko/{number}.{image}", name, "ko", truth)


def sdd(out: Written) -> None:
    """Write a mask for every image; an empty one means normal."""
    for folder, part, defect in (
        ("kos01", 0, "good"),
        ("kos01", 5, "defect"),
        ("kos50", 2, "good"),
        ("kos50", 7, "good"),
    ):
        label = f"{folder}/Part{part}_label.bmp"
        out.image(f"{folder}/Part{part}.jpg", "commutator", defect, label if defect == "defect" else "")
        if defect == "good":
            save_mask(out.root / label, value=0)


def dagm(out: Written) -> None:
    """Write upper-case suffixes, a folder Test, and a Labels.txt among the masks."""
    for number in range(1, 11):
        name, place = f"Class{number}", f"DAGM_KaggleUpload/Class{number}"
        for split in ("Train", "Test"):
            inner = f"{place}/{split}"
            out.image(f"{inner}/0001.PNG", name, split=split.lower())
            out.image(f"{inner}/0002.PNG", name, "defect", f"{inner}/Label/0002_label.PNG", split.lower())
            out.text(f"{inner}/Label/Labels.txt", "1\n")


def brainmri(out: Written) -> None:
    """Write empty masks for normal images, which the index leaves out."""
    _bmad(out, "Brain_AD", "brain", "anomaly_mask", "train/good/0.png")


def liverct(out: Written) -> None:
    """Write masks in a folder named label, as in some copies."""
    _bmad(out, "Liver_AD", "liver", "label", "train/good/img/0.png")


def resc(out: Written) -> None:
    """Write the dataset without an outer folder."""
    _bmad(out, ".", "retina", "anomaly_mask", "train/good/img/0.png")


def _bmad(out: Written, top: str, name: str, masks: str, train: str) -> None:
    top = "" if top == "." else f"{top}/"
    out.image(f"{top}{train}", name, split="train")
    out.image(f"{top}test/good/img/1.png", name)
    save_mask(out.root / f"{top}test/good/{masks}/1.png", value=0)
    for number in (1, 2):
        out.image(f"{top}test/Ungood/img/{number}.png", name, "Ungood", f"{top}test/Ungood/{masks}/{number}.png")
    out.image(f"{top}valid/Ungood/img/9.png", name, expected=False)


def br35h(out: Written) -> None:
    """Add the unlabelled folder pred and the folder of another task, which are ignored."""
    for number in (0, 1):
        out.image(f"no/no{number}.jpg", "brain")
        out.image(f"yes/y{number}.jpg", "brain", "yes")
    out.image("pred/pred0.jpg", "brain", expected=False)
    out.image("Br35H-Mask-RCNN/TRAIN/y5.jpg", "brain", expected=False)


def covid19(out: Written) -> None:
    """Write images and lung masks in separate folders, with four findings, of which two are used."""
    top = "COVID-19_Radiography_Dataset"
    for finding in ("Normal", "COVID", "Lung_Opacity", "Viral Pneumonia"):
        for number in (1, 2):
            image = f"{top}/{finding}/images/{finding}-{number}.png"
            defect = {"Normal": "good", "COVID": "COVID"}.get(finding, finding)
            out.image(image, "chest", defect, expected=finding in ("Normal", "COVID"))
            save_mask(out.root / f"{top}/{finding}/masks/{finding}-{number}.png")
        out.text(f"{top}/{finding}.metadata.xlsx", "")


def headct(out: Written) -> None:
    """Write a table with a blank after the comma of its header, and images two folders deep."""
    out.text("labels.csv", "id, hemorrhage\n0,1\n1,0\n2,1\n")
    for number, defect in ((0, "hemorrhage"), (1, "good"), (2, "hemorrhage")):
        out.image(f"head_ct/head_ct/{number:03}.png", "head", defect)


def elpv(out: Written) -> None:
    """Write the table of the package, separated by blanks; uncertain cells are left out."""
    table = []
    for number, probability, cell in (
        (1, "1.0", "mono"),
        (2, "0.0", "mono"),
        (3, "0.3333333333333333", "mono"),
        (4, "0.6666666666666666", "poly"),
        (5, "0.0", "poly"),
        (6, "1.0", "poly"),
    ):
        image = f"images/cell{number:04}.png"
        certain = probability in ("0.0", "1.0")
        out.image(image, cell, "defective" if probability == "1.0" else "good", expected=certain)
        table.append(f"{image}  {probability}                 {cell}")
    out.text("labels.csv", "\n".join(table) + "\n")


def textile(out: Written) -> None:
    """Write two classes that share their normal images."""
    for number in (1, 2):
        name = f"textile_{number:04}.jpg"
        for folder in ("local", "global"):
            out.image(f"nominal/{name}", folder)
            out.image(f"{folder}/{name}", folder, folder)


WRITERS: dict[str, Callable[[Written], None]] = {
    writer.__name__: writer
    for writer in (
        mvtec_ad, visa, mpdd, btad, sdd, dagm, brainmri, liverct, resc, br35h, covid19, headct, elpv, textile,
    )
}  # fmt: skip


def write(name: str, root: Path) -> Written:
    """Write a tiny copy of an official dataset below `root`, with the hidden files that archives contain."""
    written = Written(root)
    WRITERS[name](written)
    written.text(".DS_Store", "")
    written.text("__MACOSX/._x", "")
    return written
