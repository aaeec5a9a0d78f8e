"""Title and caption of every figure of a run, for the page; the report's longer ones are in workflow/report."""

CAPTIONS = {
    "teaser": (
        "Overview",
        "The anomalous images with the highest and the median image score of each dataset, their masks, and the "
        "anomaly maps. Images are shown as squares, as the method sees them. One colour scale a dataset, from the "
        "first to the last percentile of the values shown; white outline: ground truth; number: image score.",
    ),
    "bars": (
        "AUROC by dataset",
        "Class means; bars start at chance. Whiskers with caps: standard deviation over seeds; grey: 95 % bootstrap "
        "interval over images, of a method that ran once.",
    ),
    "ranks": (
        "Average ranks",
        "Over the datasets on which every method has a value; 1 is best. Thick bars join methods no further apart than "
        "the critical difference of Nemenyi's test at level 0.05.",
    ),
    "steps": (
        "Ablation: ",
        "AUROC of each variant, in the order in which parts are added; thick: the mean of the datasets. Whiskers with "
        "caps: standard deviation over seeds; grey: 95 % bootstrap interval over images, of a variant that ran once.",
    ),
    "qualitative": (
        "Anomaly maps: ",
        "Of each class the anomalous images with the highest (best), the median and the lowest (worst) image score and "
        "the normal image with the median one, all by the first method. Images are shown as squares, as the methods "
        "see them. One colour scale a method, from the first to the last percentile of the values shown; white "
        "outline: ground truth; number: image score.",
    ),
    "detection_curves": (
        "ROC and PRO curves: ",
        "Means over classes and seeds at equal false positive rates, so that the areas under them are means of areas; "
        "PRO up to the limit of AUPRO.",
    ),
    "histograms": (
        "Image scores: ",
        "Normal (filled) and anomalous (hatched) images of each class; each group sums to 100 %. Dashed: the threshold "
        "with the highest F1 on these very images.",
    ),
    "training_curves": (
        "Training curves",
        "Losses and, where they were logged, gradient norms, learning rates and the share of active knowledge hinges: "
        "running means over one thirtieth of the training; the band is the standard deviation over seeds.",
    ),
}
"""By the beginning of a figure's file name; a title that ends in a space goes on with the rest of the name."""
