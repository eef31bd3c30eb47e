"""What a published benchmark prescribes: facts as data, beside small modules that read them."""
