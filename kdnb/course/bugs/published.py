"""Eight bugs that were published, rewritten: what is shown is what runs."""

from kdnb.course.bugs.bug import Bug, Place
from kdnb.course.bugs.running import STEPS, TO_LABELS, TO_TEACHER, TRAINING_LOSS

ELEMENTWISE_MEAN = Bug(
    "The divergence is averaged over the classes too",
    Place.LOSS,
    '''\
 def loss(student_logits, labels, teacher_logits, temperature, soft_weight):
     """Teacher and labels, mixed by soft_weight."""
     log_ps = F.log_softmax(student_logits / temperature, dim=1)
     log_pt = F.log_softmax(teacher_logits / temperature, dim=1)
     divergence = log_pt.exp() * (log_pt - log_ps)
-    soft = temperature**2 * divergence.mean()
+    soft = temperature**2 * divergence.sum(1).mean()
     hard = F.cross_entropy(student_logits, labels)
     return soft_weight * soft + (1 - soft_weight) * hard
''',
    "A divergence is a sum over the classes and a mean over the images. The mean over both is that "
    "divided by the number of classes: with ten, the teacher has a tenth of the weight that the "
    'code names. `F.kl_div(..., reduction="mean")` does the same; it wants `"batchmean"`.',
    TRAINING_LOSS,
    "published code, libraries among it: the default of PyTorch's `F.kl_div` is this mean",
)

SOFTMAX_TWICE = Bug(
    "Softmax twice",
    Place.LOSS,
    '''\
 def loss(student_logits, labels, teacher_logits, temperature, soft_weight):
     """Teacher and labels, mixed by soft_weight."""
-    student = F.softmax(student_logits, dim=1)
-    teacher = F.softmax(teacher_logits, dim=1)
+    student, teacher = student_logits, teacher_logits
     log_ps = F.log_softmax(student / temperature, dim=1)
     pt = F.softmax(teacher / temperature, dim=1)
     soft = temperature**2 * F.kl_div(log_ps, pt, reduction="batchmean")
     hard = F.cross_entropy(student, labels)
     return soft_weight * soft + (1 - soft_weight) * hard
''',
    "What goes into the second softmax lies between 0 and 1, so what comes out is nearly even, "
    "whatever the networks say: the targets tell little, and the hard term cannot come near 0. "
    "Cross-entropy has a softmax of its own; a network that ends in one needs it taken off.",
    TO_TEACHER,
    "published notebooks whose networks end in a softmax layer",
)

TEACHERS_HARD_LOSS = Bug(
    "The hard loss is the teacher's",
    Place.LOSS,
    '''\
 def loss(student_logits, labels, teacher_logits, temperature, soft_weight):
     """Teacher and labels, mixed by soft_weight."""
     log_ps = F.log_softmax(student_logits / temperature, dim=1)
     pt = F.softmax(teacher_logits / temperature, dim=1)
     soft = temperature**2 * F.kl_div(log_ps, pt, reduction="batchmean")
-    hard = F.cross_entropy(teacher_logits, labels)
+    hard = F.cross_entropy(student_logits, labels)
     return soft_weight * soft + (1 - soft_weight) * hard
''',
    "The second term does not depend on the student: it has no gradient, and no label ever reaches "
    "it. Where a teacher is nearly always right on the training images, its answers hold the "
    "labels already; that is why accuracy need not give this bug away.",
    TO_LABELS,
    "published code, with the right name on the variable",
)

ONE_LOG = Bug(
    "The logarithm is missing on one side",
    Place.LOSS,
    '''\
 def loss(student_logits, labels, teacher_logits, temperature, soft_weight):
     """Teacher and labels, mixed by soft_weight."""
     ps = F.softmax(student_logits / temperature, dim=1)
     pt = F.softmax(teacher_logits / temperature, dim=1)
-    soft = temperature**2 * F.kl_div(ps, pt, reduction="batchmean")
+    soft = temperature**2 * F.kl_div(ps.log(), pt, reduction="batchmean")
     hard = F.cross_entropy(student_logits, labels)
     return soft_weight * soft + (1 - soft_weight) * hard
''',
    "`F.kl_div` takes the logarithm of the first probabilities and the second ones as they are. "
    "Without it the loss is no divergence: it is below 0, where a divergence cannot be, and is "
    "smallest for a student that puts everything on the teacher's first answer. What the teacher "
    "says of the other classes is lost.",
    TRAINING_LOSS,
    "published code; the loss below 0 was in its own printed log",
)

SHUFFLED_CACHE = Bug(
    "Cached logits in the wrong order",
    Place.CACHED_LOGITS,
    '''\
 def cached_logits(teacher, images, batch_size=16):
     """The teacher's logits for the training images, computed once."""
-    loader = DataLoader(images, batch_size, shuffle=True)
+    loader = DataLoader(images, batch_size, shuffle=False)
     logits = []
     with torch.no_grad():
         for batch in loader:
             logits.append(teacher(batch))
     return torch.cat(logits)
''',
    "Row n of the cache belongs to some other image, and pulls against the label. The training "
    "loss falls all the same, for wrong targets can be learnt by heart too.",
    TO_TEACHER,
    "published code that caches with the loader it trains with",
)

TEACHER_IN_TRAIN_MODE = Bug(
    "The teacher is in training mode",
    Place.LIVE_LOGITS,
    '''\
 def soft_targets(distiller, images):
     """The teacher's logits for a batch; a distiller holds student and teacher."""
-    distiller.train()  # a training step begins
+    distiller.train()  # a training step begins
+    distiller.teacher.eval()
     with torch.no_grad():
         return distiller.teacher(images)
''',
    "`train()` reaches every module inside, so the teacher answers with dropout on: another answer "
    "to the same image each time, from half of its units. Where it has batch norm, its statistics "
    "drift with the student's batches too. `no_grad` prevents neither.",
    TO_TEACHER,
    "published code, wherever one module holds both networks",
)

FIRST_LABELS = Bug(
    "Every batch gets the first labels",
    Place.INDEXED_LOSS,
    '''\
 def loss(student_logits, index, train_labels, train_logits, temperature, soft_weight):
     """The loss of a batch: of the images whose numbers are in index."""
-    labels = train_labels[: len(index)]
+    labels = train_labels[index]
     teacher_logits = train_logits[index]
     log_ps = F.log_softmax(student_logits / temperature, dim=1)
     pt = F.softmax(teacher_logits / temperature, dim=1)
     soft = temperature**2 * F.kl_div(log_ps, pt, reduction="batchmean")
     hard = F.cross_entropy(student_logits, labels)
     return soft_weight * soft + (1 - soft_weight) * hard
''',
    "The labels are those of other images, in every batch of a shuffled epoch. A student that "
    "sees only labels learns nothing from that; here the teacher is right, pulls the other way, "
    "and hides much of the harm. Run the student *without* a teacher through the same code, and it "
    "shows.",
    TO_LABELS,
    "a published comparison, where each batch had the first 32 labels",
)

ONE_STUDENT_FOR_ALL = Bug(
    "The student is not made anew for each temperature",
    Place.SWEEP,
    '''\
 def sweep(new_student, train, temperatures):
     """Validation accuracy at each temperature."""
-    student = new_student()
-    accuracies = {}
-    for temperature in temperatures:
+    accuracies = {}
+    for temperature in temperatures:
+        student = new_student()
         accuracies[temperature] = train(student, temperature)
     return accuracies
''',
    "Each temperature starts from what the ones before have taught: whatever comes last is "
    "flattered. From high to low, as here, the sweep hides what low temperatures lack.",
    STEPS,
    "published sweeps, several of them",
)

ALL: tuple[Bug, ...] = (
    ELEMENTWISE_MEAN,
    SHUFFLED_CACHE,
    SOFTMAX_TWICE,
    TEACHERS_HARD_LOSS,
    TEACHER_IN_TRAIN_MODE,
    ONE_LOG,
    FIRST_LABELS,
    ONE_STUDENT_FOR_ALL,
)
