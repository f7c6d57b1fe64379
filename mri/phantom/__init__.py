"""Synthetic T1-weighted, contrast-enhanced brain MRI with exact tumour masks.

anatomy: one head in template space: the MNI152 brain inside a drawn skull, scalp, face and neck.
patients: what tells one synthetic patient from another: pose, warp, tissue contrast.
lesions: the tumours; distractors: the bright and dark things that are no tumours.
acquisition: blur, bias field, ghosts, noise, window: from tissue to an 8-bit picture.
rendering: all of it together, from a patient to its slices.
"""
