"""Synthetic T1-weighted, contrast-enhanced brain MRI with exact tumour masks.

anatomy: one head in template space, the MNI152 brain inside a drawn skull, scalp, face and neck.
geometry: where a patient's slices cut the head: plane, position, pose, warp.
tissue: a patient's brightness of every tissue, and texture.
lesions: the tumours. distractors: bright and dark structures that are no tumours.
acquisition: blur, bias field, ghost, noise, window: from tissue to an 8-bit picture.
rendering: one patient, from a seed to slices and masks.
fields: random smooth fields, which the other modules use.
"""
