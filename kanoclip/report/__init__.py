"""Tables, figures and the page a person opens first; from CSV and HDF5 files only, without torch."""
