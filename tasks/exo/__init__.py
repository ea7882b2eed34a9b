"""One module per EXO generation behind one small interface; pure: strings in, strings out."""
