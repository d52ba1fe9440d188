"""Preference data, the paper's Sec. 3.4: concepts, scenarios, images, and the data set made of them."""
