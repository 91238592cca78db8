"""Models that the tasks train.

``parameters`` in a vision YAML counts them for three channels, ten classes and 32x32 images, in
``*_imagenet`` for 1000 classes and 224x224. It is a note: the number does not reach the model.
"""
