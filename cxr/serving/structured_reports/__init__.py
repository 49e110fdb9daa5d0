"""The score of a film as a DICOM structured report, which goes back to the archive that it came from.

A Measurement Report (DICOM PS3.16, TID 1500) with one measurement group (TID 1501) for the film: its
score and the threshold as measurements, the decision as a qualitative evaluation, the model as the
algorithm. It says that it is research output, it is partial, preliminary and unverified.

A report names its patient, as the archive needs it: it belongs neither into a work folder nor to
anybody who may not see the films. Equal films scored equally by the same model have reports of the
same UID, so that an archive keeps one of them.
"""
