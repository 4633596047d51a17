"""The last step of a model: which class, made from settings, with splits that serving finds again."""
