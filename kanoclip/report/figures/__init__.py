"""One module per figure; each reads CSV or HDF5 files and writes PNG, PDF and SVG in the style of `report.style`."""
