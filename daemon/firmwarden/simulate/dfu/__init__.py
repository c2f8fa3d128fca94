"""A simulated DFU device: silicon that decides what to start, a loader that can misbehave, a port to pull it from.

The silicon: ``flash`` (pages, granules with check bits, wear, what a power cut leaves), ``options`` (option bytes),
``patterns`` (what decides boot, as data), ``parts`` (one part for each row of families that boot alike), ``firmware``
(the images that the model knows), ``image`` (those that tell what they are) and ``chip``, which is all of these with
power on or off.

The loader: ``traits`` (facts and bugs that can be switched), ``engine`` (the requests, by the protocol's own table of
states), ``addressed`` and ``streamed`` (what a download means in DfuSe and in plain DFU), ``work`` (what it is busy
with), ``identity`` (descriptors), ``appearance`` (what is on the bus, by what runs).

``device`` is the whole, without IO: control transfers and the time go in, answers come out.  ``faults`` strike in it
at chosen transfers; a watcher that it is given may cut the power around every single erase, program, option write
and status poll, and take a snapshot there first.

What users meet: ``description`` (devices in a file of theirs), ``kinds`` (products that are simulated), ``files``,
``command`` and ``report``.  The fronts: ``bus`` has ports to plug devices into, ``backend`` and ``lister`` show such a
bus to a program that uses pyusb, ``running`` keeps its time; ``usbip``, ``usbip_link`` and ``usbip_front`` show devices
to a kernel.

The model judges the truth from the device's side.  It shares the protocol's codecs with the host, and nothing that
the host knows about silicon.
"""
