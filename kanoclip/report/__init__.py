"""Tables, figures and the page index.html, made from CSV and HDF5 files without torch."""
