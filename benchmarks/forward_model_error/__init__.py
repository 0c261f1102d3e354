"""Controllers learned through a forward model, with and without its prediction error, beside other ways to control."""
