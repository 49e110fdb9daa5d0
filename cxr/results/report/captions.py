"""What the report says beside its pictures, reject reasons and stages."""

# By section of the report: the captions of its pictures, by file name without ".png".
RUN_CAPTIONS = {
    "test": {
        "confusion_matrix": (
            "Confusion matrix: every test image by the label of its folder (rows) and the "
            "prediction (columns)."
        ),
        "scores_test": (
            "Scores of the test images by label; false positives and false negatives are in full "
            "colour."
        ),
        "roc_test": "ROC curve on test: sensitivity against 1 - specificity at every threshold.",
        "precision_recall_test": (
            "Precision-recall curve on test. PPV depends on the prevalence of pneumonia in the set."
        ),
    },
    "comparison": {
        "roc_val": (
            "ROC curves of the architectures on the same validation images, each with its own "
            "operating point."
        ),
    },
    "training": {
        "histories": (
            "Training histories. At epoch 0 the head alone is fitted, once for each of several "
            "regularisations (one point each); from the best of these on, in the shaded part, the "
            "top of the backbone is fine-tuned."
        ),
    },
    "calibration": {
        "reliability": (
            "Reliability diagrams: the observed share of PNEUMONIA by score. On the dotted line a "
            "score is a probability. The number beside a point is that of its images, the bar its "
            "95 % interval (Wilson)."
        ),
    },
    "usefulness": {
        "decision_curve_test": (
            "Decision curve: net benefit of acting on the score from each threshold probability on, "
            "with its 95 % interval, beside calling every film positive and calling none. Good: the "
            "blue line lies well above both over the probabilities that a reader would act from. Bad: "
            "it touches or falls below one of them, so that policy does as well without a model."
        ),
    },
    "stress": {
        "stress": (
            "Sensitivity and specificity on test in every stress world, at the same operating "
            "point. The dotted line is that of the images as they are."
        ),
        "worlds": (
            "The stress worlds, on the NORMAL and the PNEUMONIA test image whose score is in the "
            "middle of its class."
        ),
    },
    "abstention": {
        "risk_coverage": (
            "Left: the share of wrong answers by the share of test images that is answered, where "
            "the least certain are referred first. Right: sensitivity and specificity among the "
            "answered by policy; its number marks it on the left."
        ),
        "referred": (
            "Test images that are referred as unlike those of the training, with the label of "
            "their folder. They are chosen by p-value, not by hand."
        ),
    },
    "reliance": {
        "masks": (
            "What the network saw with parts hidden. The lung fields are one fixed rectangle for "
            "all images; no lung was outlined."
        ),
    },
    "saliency": {
        "gradcam": "Grad-CAM on test images, which were chosen by a rule and not by hand.",
    },
}
DATA_CAPTIONS = {
    "leakage": {
        "pairs": "Pairs of near-duplicates as they were compared, and where each image is now.",
    },
    "baselines": {
        "shortcuts": (
            "AUROC of the non-clinical signals alone. Every network has to exceed these baselines. "
            "The audit warns of the container above the dashed line, and of the films' shape where "
            "a whole interval lies above it."
        ),
    },
    "shift": {
        "shift": (
            "Differences between the other splits and train within one class, as the chance that a "
            "patient of the other split has the higher value. Filled marks: significant and not "
            "trivial."
        ),
    },
    "data": {
        "class_distribution": "Images of each class by split.",
        "attributes": (
            "Age, sex, view and device of the films, where tags or a table say them, as shares of "
            "each split and class."
        ),
        "image_sizes": "Width and height of the images as they were found, before resizing.",
        "intensity": (
            "Brightness and contrast. Where the classes differ, a model can learn the difference "
            "instead of the disease."
        ),
        "samples": "Random train images of both classes, as the files have them.",
        "augmentation": (
            "Train images and random augmentations of them. None is mirrored: the heart is on one "
            "side."
        ),
        "modes": "Pixel modes of the files (L: gray, RGB: colour).",
    },
}

REJECT_REASONS = {
    "not_an_image": "not an image file",
    "unreadable": "cannot be decoded",
    "truncated": "the file ends too early",
    "empty_file": "no bytes",
    "too_large": "more pixels than allowed",
    "unsupported_mode": "pixel format not known",
    "duplicate": "same picture as a kept image",
    "near_duplicate": "near-duplicate of a kept image",
    "label_conflict": "same picture under both labels: all copies removed",
    "ignored": "system file",
    "outside_root": "outside the data folder",
    "unknown_class": "not below a NORMAL or PNEUMONIA folder",
    "nested_copy": "lies in a copy of the data set inside itself",
    "vanished": "gone between listing and reading",
    "excluded": "left out by --exclude",
    "unknown_split": "the split of its folder is not known",
    "mask": "a mask or a two-valued picture",
    "negative": "negative of a film",
    "too_small": "too few pixels",
    "extreme_shape": "far too long or too wide",
    "flat": "hardly any contrast",
}

# In the order in which they run.
STAGES = {
    "inspect": "Read, check, hash and measure each file",
    "compare": "Find near-duplicates",
    "decode": "Decode and resize into the pixel cache",
    "explore": "Explore, audit non-clinical signals, test for distribution shift",
    "features": "features of the frozen backbone, for images and augmentations",
    "frozen": "fit the head",
    "fine_tune": "fine-tune the top of the backbone, or the whole network",
    "ensemble": "average the networks, score validation images",
    "stress": "score validation images in the stress worlds",
    "test": "Prove the export, score the test images",
    "scope": "Learn what the model was made for, and judge the test images by it",
    "test_stress": "Score test images in the stress worlds and with parts hidden",
}
