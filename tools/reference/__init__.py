"""The reference pages, made from the code: what they say cannot differ from what is so."""
