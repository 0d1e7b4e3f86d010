"""Raw media -> features: sound, faces, words and the corpus made of them."""
