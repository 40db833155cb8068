"""Augmentations, one file each: `pixels(images, generator)` changes uint8 images [N, C, H, W] before they are normalised;
`normalised(images, labels, classes, generator)` changes normalised ones and may mix their labels."""
